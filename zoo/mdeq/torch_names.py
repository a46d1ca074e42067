"""The MDEQ's variables under the names of TorchDEQ's `mdeq/mdeq_cifar`."""

from zoo.mdeq.config import MDEQConfig
from zoo.upstream.names import TorchNames

RULES = (
    # the equilibrium function sits inside the DEQ layer, and inside its weight norm if it has one
    (r"^full_stage\.cell\.module\.(.*)\.kernel$", r"full_stage.\1.weight_v"),
    (r"^full_stage\.cell\.scales\.(.*)$", r"full_stage.\1.weight_g"),
    (r"^full_stage\.cell\.(module\.)?", "full_stage."),
    (r"^stem\.0\.conv", "downsample.0"),
    (r"^stem\.0\.bn", "downsample.1"),
    (r"^stem\.1\.conv", "downsample.3"),
    (r"^stem\.1\.bn", "downsample.4"),
    (r"^incre_modules\.(\d+)\.unit(\d)\.(conv|bn)", r"incre_modules.\1.0.\3\2"),
    (r"^incre_modules\.(\d+)\.shortcut", r"incre_modules.\1.0.downsample"),
    (r"^(stage0|final_layer|downsamp_modules\.\d+|incre_.*\.downsample)\.conv", r"\1.0"),
    (r"^(stage0|final_layer|downsamp_modules\.\d+|incre_.*\.downsample)\.bn", r"\1.1"),
)


def torch_names(config: MDEQConfig) -> TorchNames:
    """The table for a model of these sizes."""
    ignored = r"\.num_batches_tracked$"
    if config.n_branches == 1:  # the original creates these units but never applies them
        ignored += r"|^full_stage\.post_fuse_layers\."
    return TorchNames(rules=RULES, ignored=ignored)
