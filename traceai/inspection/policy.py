"""The audit draw: which decisions a person verifies blind. Decided, and its probability recorded, before anybody looks.

Rejects and undecided parts go to a person anyway, so they are drawn for certain. Passes are drawn with the station's
probability: without verified passes, no miss rate can be estimated.
"""

import secrets
from decimal import Decimal

from traceai.ledger.canonical import decimal
from traceai.ledger.records import Audit, Verdict

_RANDOM = secrets.SystemRandom()


def draw(verdict: Verdict, pass_probability: float) -> Audit:
    """Draw from the operating system's randomness, which nobody on the line can predict or repeat.

    pass_probability: in (0, 1]; that of the stratum `pass`.
    """
    probability = decimal(pass_probability) if verdict == "pass" else "1"
    drawn = Decimal(_RANDOM.random()) < Decimal(probability)
    return Audit(stratum=verdict, probability=probability, drawn=drawn)
