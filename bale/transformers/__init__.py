"""The part that needs transformers: models of folders of archives, in any of its classes.

Importing it makes ``bale`` known to transformers as a way in which weights are stored: a folder whose ``config.json``
says so, as ``bale compress --for transformers`` writes it, then loads by ``from_pretrained`` of any class.
"""

from bale.transformers.loading import from_pretrained
from bale.transformers.quantizer import BaleConfig

__all__ = ["BaleConfig", "from_pretrained"]
