"""Named configurations of the MDEQ: a quick one, and the two published ones."""

import jdeq
from zoo.mdeq.config import MDEQConfig
from zoo.settings import Preset, TrainConfig

EPOCH = 50_000  # CIFAR-10 training images

PRESETS = {
    # python -m zoo train mdeq
    "quick": Preset(
        summary="8x8 digits, minutes on a CPU",
        model=MDEQConfig(
            channels=(16, 16),
            head_channels=(4, 8),
            final_channels=64,
            n_groups=4,
            expansion=2,
            in_channels=1,
            image_size=(8, 8),
        ),
        deq=jdeq.DEQConfig(
            f_solver="broyden",
            f_max_iter=15,
            f_tol=1e-2,
            f_stop_mode="rel",
            eval_factor=3.0,
            grad=3,
            tau=0.7,
            norm_type="weight_norm",
        ),
        train=TrainConfig(
            steps=250,
            batch_size=64,
            eval_batch_size=360,
            lr=0.1,
            weight_decay=5e-4,
            eval_every=125,
            save_every=125,
        ),
        data="digits",
    ),
    # python -m zoo train mdeq --preset cifar-small --data DIR
    # 159,034 parameters, 50 epochs; hyper-parameters of TorchDEQ's small.yaml
    "cifar-small": Preset(
        summary="CIFAR-10, published small configuration",
        model=MDEQConfig(),
        deq=jdeq.DEQConfig(
            f_solver="broyden",
            f_max_iter=22,
            f_tol=1e-3,
            f_stop_mode="abs",
            grad=5,
            tau=0.5,
            norm_type="weight_norm",
        ),
        train=TrainConfig(
            steps=50 * (EPOCH // 128),
            batch_size=128,
            lr=0.1,
            weight_decay=1e-4,
            eval_every=EPOCH // 128,
            save_every=EPOCH // 128,
        ),
        data="cifar10",
    ),
    # python -m zoo train mdeq --preset cifar-large --data DIR
    # 11,099,998 parameters, 220 epochs, published top-1 95.0 % (2 GPUs, 64 images each)
    "cifar-large": Preset(
        summary="CIFAR-10, published large configuration",
        model=MDEQConfig(
            channels=(32, 64, 128, 256),
            head_channels=(14, 28, 56, 112),
            final_channels=1680,
            n_blocks=(1, 1, 1, 1),
        ),
        deq=jdeq.DEQConfig(
            f_solver="broyden",
            f_max_iter=18,
            f_tol=1e-3,
            f_stop_mode="abs",
            grad=5,
            tau=0.7,
            norm_type="weight_norm",
        ),
        train=TrainConfig(
            steps=220 * (EPOCH // 128),
            batch_size=128,
            lr=0.1,
            weight_decay=1e-4,
            eval_every=EPOCH // 128,
            save_every=EPOCH // 128,
        ),
        data="cifar10-augmented",
    ),
}
