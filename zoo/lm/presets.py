"""Named configurations of the language model: quick and small ones, and the published ones."""

import dataclasses

import jdeq
from zoo.lm.config import LMConfig
from zoo.settings import Preset, TrainConfig

# 12 applications of f from 0, differentiated as they are: there is no solver's loop, neither in
# training nor in evaluation, and no equilibrium that one could miss
UNROLLED = jdeq.DEQConfig(
    f_max_iter=0, f_tol=1e-3, f_stop_mode="rel", grad=12, norm_type="weight_norm"
)
IMPLICIT = jdeq.DEQConfig(
    ift=True,
    f_solver="broyden",
    f_max_iter=35,
    f_tol=1e-3,
    f_stop_mode="rel",
    b_solver="broyden",
    b_max_iter=35,
    b_tol=1e-3,
    b_stop_mode="rel",
    norm_type="weight_norm",
)
MAX_NORM = 0.25  # of the gradient, in both designs
LATER = LMConfig()
EARLIER = LMConfig(design="deq_seq", n_layer=1, d_inner=48_000, pre_norm=False)
SMALL = LMConfig(
    n_layer=2,
    n_head=8,
    d_model=256,
    d_inner=1024,
    d_embed=256,
    cutoffs=(2_000, 10_000),
    tied_projections=(1, 2),
    dropout=0.1,
    tgt_len=64,
    mem_len=64,
    eval_tgt_len=64,
    eval_mem_len=64,
    n_token=33_278,
)
SMALL_TRAIN = TrainConfig(
    steps=20_000, batch_size=32, eval_batch_size=16, lr=5e-4, weight_decay=0.0, clip=MAX_NORM
)
PUBLISHED_TRAIN = TrainConfig(
    steps=150_000,
    batch_size=56,
    eval_batch_size=16,
    lr=2.5e-4,
    weight_decay=0.0,
    clip=MAX_NORM,
    eval_every=5_000,
    save_every=5_000,
)

QUICK = Preset(
    summary="characters of Python's own sources, minutes on a CPU",
    model=LMConfig(
        n_layer=1,
        n_head=4,
        d_model=64,
        d_inner=256,
        d_embed=64,
        cutoffs=(),
        div_val=1,
        tied_projections=(),
        dropout=0.0,
        tgt_len=64,
        mem_len=64,
        eval_tgt_len=64,
        eval_mem_len=64,
        n_token=97,
        fan_in=True,
    ),
    deq=dataclasses.replace(UNROLLED, grad=6),
    train=TrainConfig(
        steps=500,
        batch_size=16,
        eval_batch_size=16,
        lr=5e-3,
        weight_decay=0.0,
        clip=MAX_NORM,
        eval_every=250,
        save_every=250,
    ),
    data="python",
)

PRESETS = {
    # python -m zoo train lm
    "quick": QUICK,
    # python -m zoo train lm --preset characters --data DIR
    "characters": dataclasses.replace(
        QUICK, summary="characters of any text, minutes on a CPU", data="characters"
    ),
    # python -m zoo train lm --preset words --data DIR
    "words": Preset(
        summary="words of any text, one small GPU",
        model=dataclasses.replace(
            SMALL, n_token=10_000, cutoffs=(), div_val=1, tied_projections=(), n_layer=1
        ),
        deq=UNROLLED,
        train=SMALL_TRAIN,
        data="words",
    ),
    # python -m zoo train lm --preset ptb-small --data DIR
    "ptb-small": Preset(
        summary="Penn Treebank by word, one small GPU",
        model=dataclasses.replace(
            SMALL, n_token=10_000, cutoffs=(1_000, 4_000), dropout=0.3, n_layer=1
        ),
        deq=UNROLLED,
        train=SMALL_TRAIN,
        data="ptb",
    ),
    # python -m zoo train lm --preset wikitext2-small --data DIR
    "wikitext2-small": Preset(
        summary="WikiText-2 by word, one small GPU",
        model=SMALL,
        deq=UNROLLED,
        train=dataclasses.replace(SMALL_TRAIN, steps=40_000),
        data="wikitext-2",
    ),
    # python -m zoo train lm --preset wikitext103 --data DIR
    # 97,730,888 parameters, 150,000 steps on 4 GPUs; published test perplexity 22.34, and 21.85
    # with --eval_mem_len 480
    "wikitext103": Preset(
        summary="WikiText-103, published later design",
        model=LATER,
        deq=UNROLLED,
        train=PUBLISHED_TRAIN,
        data="wikitext-103",
    ),
    # python -m zoo train lm --preset wikitext103-ift --data DIR
    # 97,851,488 parameters, 300,000 steps; published test perplexity 23.78
    "wikitext103-ift": Preset(
        summary="WikiText-103, published earlier design, implicit gradient",
        model=EARLIER,
        deq=IMPLICIT,
        train=dataclasses.replace(PUBLISHED_TRAIN, steps=300_000),
        data="wikitext-103",
    ),
    # the same with the Jacobian penalty; published test perplexity 23.67
    "wikitext103-jr": Preset(
        summary="the same with Jacobian regularisation",
        model=EARLIER,
        deq=dataclasses.replace(IMPLICIT, jac_loss_weight=0.1, jac_loss_freq=0.4),
        train=dataclasses.replace(PUBLISHED_TRAIN, steps=300_000),
        data="wikitext-103",
    ),
}
