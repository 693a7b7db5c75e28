"""The part that needs torch: the tensors of an archive in a state dict, or straight in a model."""

from bale.torch.into import LoadedInto, load_into
from bale.torch.state_dict import load_state_dict

__all__ = ["LoadedInto", "load_into", "load_state_dict"]
