"""Ways to differentiate a solve, one file each."""

from .base import Backward as Backward
from .ift import IFT as IFT
from .jfb import JFB as JFB
from .phantom import PhantomGrad as PhantomGrad
from .registry import register_backward as register_backward
from .shine import SHINE as SHINE
from .unroll import Unroll as Unroll

register_backward("ift", IFT)
register_backward("phantom", PhantomGrad)
register_backward("jfb", JFB)
register_backward("unroll", Unroll)
register_backward("shine", SHINE)
