"""What hypothesis draws in several tests."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def affines(draw):
    """Any rotation, unequal spacing, any order and direction of the axes."""
    angles = draw(st.tuples(*[st.floats(-3.1, 3.1)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 3)] * 3))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (i for i in range(3) if i != axis)
        one = np.eye(3)
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ one
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-100, 100)] * 3))
    return affine
