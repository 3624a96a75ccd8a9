"""The yardstick: the same word VAE written plainly, as a tutorial on PyTorch would have it.

Padded batches, `nn.LSTM` on concatenated inputs, `nn.Linear` and `F.cross_entropy` in float32, `torch.optim.Adam`
with its defaults. Nothing here is slowed down on purpose, and nothing is tuned.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

PAD, BOS = 0, 2


class PlainVAE(nn.Module):
    """Encoder LSTM, Gaussian posterior, decoder LSTM with z at every input and as the initial state."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, latent: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.encoder_embedding = nn.Embedding(vocabulary, embedding)
        self.encoder = nn.LSTM(embedding, hidden, batch_first=True)
        self.to_mu = nn.Linear(hidden, latent)
        self.to_logvar = nn.Linear(hidden, latent)
        self.decoder_embedding = nn.Embedding(vocabulary, embedding)
        self.to_state = nn.Linear(latent, 2 * hidden)
        self.decoder = nn.LSTM(embedding + latent, hidden, batch_first=True)
        self.to_words = nn.Linear(hidden, vocabulary)
        self.dropout = nn.Dropout(dropout)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and KL, each in nats per sentence, means over the batch."""
        outputs, _ = self.encoder(self.encoder_embedding(ids))
        last = outputs[torch.arange(len(ids)), lengths - 1]
        mu, logvar = self.to_mu(last), self.to_logvar(last)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)

        c = self.to_state(z)
        h, c = c.chunk(2, dim=1)
        state = (h.tanh().unsqueeze(0).contiguous(), c.unsqueeze(0).contiguous())
        begin = torch.full_like(ids[:, :1], BOS)
        inputs = self.dropout(self.decoder_embedding(torch.cat([begin, ids[:, :-1]], dim=1)))
        inputs = torch.cat([inputs, z.unsqueeze(1).expand(-1, inputs.shape[1], -1)], dim=2)
        outputs, _ = self.decoder(inputs, state)
        logits = self.to_words(self.dropout(outputs))

        nats = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), ignore_index=PAD, reduction="sum")
        kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(dim=1)
        return nats / len(ids), kl.mean()


def plain_collate(sentences: list[Tensor]) -> tuple[Tensor, Tensor]:
    """What a `DataLoader` calls: sentences padded to the longest of the batch, and their lengths."""
    lengths = torch.tensor([len(sentence) for sentence in sentences])
    return pad_sequence(sentences, batch_first=True, padding_value=PAD), lengths


def plain_step(model: PlainVAE, optimizer: torch.optim.Optimizer, sentences: list[Tensor]) -> float:
    """One update on a batch of sentences; gives the loss."""
    ids, lengths = plain_collate(sentences)
    reconstruction, kl = model(ids, lengths)
    loss = reconstruction + kl
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return loss.item()
