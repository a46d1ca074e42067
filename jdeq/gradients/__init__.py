"""Ways to differentiate a solve, one file each."""

from .base import Backward as Backward
from .ift import IFT as IFT
from .jfb import JFB as JFB
from .phantom import PhantomGrad as PhantomGrad
from .shine import SHINE as SHINE
from .unroll import Unroll as Unroll
