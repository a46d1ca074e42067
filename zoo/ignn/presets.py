"""Named configurations of the IGNN: a quick one, the published ones, and what else there is."""

import dataclasses

import jdeq
from zoo.ignn.config import IGNNConfig
from zoo.ignn.optimizer import IGNNTrainConfig
from zoo.settings import Preset

# what the scripts of the original pass; its library's defaults are those of "chains" and "amazon"
DEFAULTS = jdeq.DEQConfig(
    f_max_iter=40, f_tol=1e-3, f_stop_mode="abs", grad=1, tau=1.0, norm_type="weight_norm"
)
PUBLISHED = dataclasses.replace(DEFAULTS, grad=5, tau=0.5)
# solved to the end, and differentiated exactly
EXACT = jdeq.DEQConfig(
    f_max_iter=300,
    f_tol=1e-6,
    f_stop_mode="rel",
    b_solver="fixed_point_iter",
    b_max_iter=300,
    b_tol=1e-6,
    ift=True,
    norm_type="weight_norm",
)

CHAINS = IGNNConfig(widths=(16,), kappa=0.9, dropout=0.5, row_norm=True, n_nodes=400)
FAR = dataclasses.replace(CHAINS, w_init="identity")
CHAINS_TRAIN = IGNNTrainConfig(
    steps=2000,
    batch_size=1,
    eval_batch_size=1,
    lr=0.01,
    weight_decay=5e-4,
    clip_each=0.5,
    log_every=10,
    eval_every=100,
    save_every=500,
)
CITATIONS = IGNNConfig(widths=(64,), kappa=0.9, dropout=0.5)
CITATIONS_TRAIN = dataclasses.replace(
    CHAINS_TRAIN, steps=300, clip_each=0.0, eval_every=20, save_every=100
)
GRAPHS = IGNNConfig(form="graphs", widths=(64, 64, 64), kappa=0.9, dropout=0.5)
GRAPHS_DEQ = dataclasses.replace(PUBLISHED, norm_type="none")


def _graphs(summary: str, data: str, n_features: int, per_epoch: int) -> Preset:
    """200 epochs in batches of 128 graphs, four samples to the solver."""
    return Preset(
        summary=summary,
        model=dataclasses.replace(GRAPHS, n_features=n_features),
        deq=GRAPHS_DEQ,
        train=IGNNTrainConfig(
            steps=200 * per_epoch,
            batch_size=4,
            eval_batch_size=4,
            lr=0.001,
            weight_decay=0.0,
            halve_at=50 * per_epoch,
            eval_every=10 * per_epoch,
            save_every=50 * per_epoch,
        ),
        data=data,
    )


PRESETS = {
    # python -m zoo train ignn
    "quick": Preset(
        summary="chains of 10 nodes, a minute on a CPU",
        model=FAR,
        deq=EXACT,
        train=dataclasses.replace(CHAINS_TRAIN, steps=200, save_every=100),
        data="chains",
    ),
    # python -m zoo train ignn --preset chains --chain_length 40
    "chains": Preset(
        summary="chains of any length, solved and differentiated exactly",
        model=FAR,
        deq=EXACT,
        train=CHAINS_TRAIN,
        data="chains",
    ),
    # the settings of the published script, which work for chains of 10 nodes
    "chains-published": Preset(
        summary="the same with the published settings",
        model=CHAINS,
        deq=DEFAULTS,
        train=CHAINS_TRAIN,
        data="chains",
    ),
    # python -m zoo train ignn --preset cora --data DIR
    "cora": Preset(
        summary="Cora, public split",
        model=dataclasses.replace(CITATIONS, n_features=1433, n_classes=7, n_nodes=2708),
        deq=EXACT,
        train=CITATIONS_TRAIN,
        data="cora",
    ),
    "citeseer": Preset(
        summary="Citeseer, public split",
        model=dataclasses.replace(CITATIONS, n_features=3703, n_classes=6, n_nodes=3327),
        deq=EXACT,
        train=CITATIONS_TRAIN,
        data="citeseer",
    ),
    # python -m zoo train ignn --preset amazon --data DIR
    "amazon": Preset(
        summary="Amazon co-purchases, published settings",
        model=IGNNConfig(
            widths=(128,),
            kappa=0.95,
            dropout=0.5,
            n_features=334_863,
            n_nodes=334_863,
            n_classes=58,
            labels="top",
        ),
        deq=DEFAULTS,
        train=IGNNTrainConfig(
            steps=5000,
            batch_size=1,
            eval_batch_size=1,
            lr=0.01,
            weight_decay=0.0,
            eval_every=50,
            save_every=500,
        ),
        data="amazon",
    ),
    # python -m zoo train ignn --preset ppi --data DIR
    # 20 training graphs, 1000 epochs; published test micro-F1 98.2 to 98.8 %
    "ppi": Preset(
        summary="protein interactions, published settings",
        model=IGNNConfig(
            form="stack",
            widths=(1024, 512, 512, 256),
            kappa=0.98,
            dropout=0.0,
            n_features=50,
            n_classes=121,
            labels="any",
        ),
        deq=dataclasses.replace(PUBLISHED, norm_type="spectral_norm", norm_clip=True),
        train=IGNNTrainConfig(
            steps=20_000,
            batch_size=1,
            eval_batch_size=1,
            lr=0.005,
            weight_decay=0.0,
            eval_every=200,
            save_every=1000,
        ),
        data="ppi",
    ),
    # python -m zoo train ignn --preset mutag --data DIR --fold 3
    "mutag": _graphs("mutagenic compounds, published settings", "MUTAG", 7, 2),
    "proteins": _graphs("enzymes or not, published settings", "PROTEINS", 3, 8),
    "ptc": _graphs("carcinogenic compounds, published settings", "PTC", 19, 3),
    "cox2": _graphs("enzyme inhibitors, published settings", "COX2", 8, 4),
    "nci1": _graphs("active against cancer cells, published settings", "NCI1", 37, 29),
}
