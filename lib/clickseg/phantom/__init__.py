"""Make phantom studies: a procedural head with a vestibular schwannoma, on T1ce and T2.

Start at ``make.make_phantom``. A study is a function of its seed, its index (or subject) and its
options alone.
"""

from clickseg.phantom.contours import Outlines, read_outlines
from clickseg.phantom.make import Phantom, make_phantom

__all__ = ["Outlines", "Phantom", "make_phantom", "read_outlines"]
