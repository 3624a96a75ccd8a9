"""The inner loop of aggressive training: updates of the encoder alone before a step."""

from collections.abc import Callable

from textvae.settings import Aggressive


def encoder_updates(update: Callable[[int], tuple[float, int]], settings: Aggressive) -> int:
    """Take updates of the encoder alone; `update(i)` takes the i-th and returns the nats and tokens of its batch.

    `settings.inner` updates, or as many as it takes until the nats per token of `check` updates are no fewer than
    those of the `check` before, `most` at most. Returns how many were taken.

    References: He et al. 2019, algorithm 1; Fu et al. 2020, algorithm 1 (T_a).
    """
    if settings.inner != "converged":
        for number in range(settings.inner):
            update(number)
        return settings.inner
    before, nats, tokens = float("inf"), 0.0, 0
    for number in range(settings.most):
        found = update(number)
        nats, tokens = nats + found[0], tokens + found[1]
        if (number + 1) % settings.check == 0:
            if nats / tokens >= before:
                return number + 1
            before, nats, tokens = nats / tokens, 0.0, 0
    return settings.most
