"""PyTorch state dicts to zoo models and back: names and layouts, no PyTorch needed."""

from zoo.torch_import.load import StateDictError as StateDictError, load_arrays as load_arrays
from zoo.torch_import.names import TorchNames as TorchNames
from zoo.torch_import.transfer import (
    Buffer as Buffer,
    export_arrays as export_arrays,
    export_state_dict as export_state_dict,
    import_arrays as import_arrays,
)
