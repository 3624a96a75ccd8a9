"""Settings of a model: its parts and their sizes."""

from pydantic import PositiveFloat

from textvae.parts.conditioners import AnyConditioner, NoConditioner
from textvae.parts.decoders import AnyDecoder, RecurrentDecoderSettings
from textvae.parts.encoders import AnyEncoder, RecurrentEncoderSettings
from textvae.parts.multi_rate import MultiRateSettings
from textvae.parts.posteriors import AnyPosterior, GaussianSettings
from textvae.parts.priors import AnyPrior, StandardNormalSettings
from textvae.parts.refinement import Amortized, AnyInference
from textvae.settings.fields import DepthOrNone, Probability, Size, SizeOrNone
from textvae.settings.schedules import Schedule
from textvae.settings.strict import Strict


class FeedforwardSettings(Strict):
    """Layers around z: between the encoder and the posterior, and between z and the decoder; 0 is none."""

    layers: DepthOrNone = 0
    highway: bool = True


class ModelSettings(Strict):
    """The parts and their sizes; `latent = 0` is the plain language model: the decoder alone.

    `word_keep` is the rate at which word dropout keeps the decoder's input words. With `shared_embedding` encoder
    and decoder embed words alike; with `tied` the decoder's embeddings are the weights of its softmax too.
    `multi_rate` makes one model of many KL weights.
    """

    latent: SizeOrNone = 32
    embedding: Size = 256
    conditioner: AnyConditioner = NoConditioner()
    encoder: AnyEncoder = RecurrentEncoderSettings()
    feedforward: FeedforwardSettings = FeedforwardSettings()
    posterior: AnyPosterior = GaussianSettings()
    prior: AnyPrior = StandardNormalSettings()
    inference: AnyInference = Amortized()
    multi_rate: MultiRateSettings | None = None
    decoder: AnyDecoder = RecurrentDecoderSettings()
    word_keep: Probability = 1.0
    shared_embedding: bool = False
    tied: bool = False
    init: PositiveFloat = 0.1

    def schedules(self) -> dict[str, Schedule]:
        """Return the schedules of its parts by path."""
        own = {f"posterior.{name}": schedule for name, schedule in self.posterior.schedules().items()}
        return own if self.multi_rate is None else own | {"multi_rate.reach": self.multi_rate.reach}

    @property
    def fixed_length(self) -> bool:
        """True if a part reads or unfolds all positions that there can be, whatever a text's length."""
        return self.decoder.fixed_length or (self.latent > 0 and self.encoder.fixed_length)
