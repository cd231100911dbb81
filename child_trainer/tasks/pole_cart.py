"""Two poles on a cart: Wieland's equations of motion. Standard library only.

As in the experiments of Gruau et al. (1996) and of Stanley & Miikkulainen (2002, section 4.2): the cart on 4.8 m of
track weighs 1 kg and has no friction; the poles are 1 m and 0.1 m long and weigh 0.1 kg and 0.01 kg. A force of at
most 10 N acts on the cart for two steps of 0.01 s at a time.
"""

import math

State = tuple[float, float, float, float, float, float]
"""The cart's position (m) and velocity, then the angle from the vertical (rad) and its velocity, pole by pole."""

GRAVITY = -9.8
CART_MASS = 1.0
POLES = ((0.5, 0.1), (0.05, 0.01))
"""Half the length (m) and the mass (kg) of each pole."""
HINGE_FRICTION = 0.000002
MAX_FORCE = 10.0
STEP_SECONDS = 0.01
STEPS_PER_ACTION = 2

TRACK = 2.4
"""The farthest that the cart may be from the middle, in m."""
MAX_ANGLE = math.radians(36)
"""The farthest that a pole may lean, in rad."""

((_LENGTH_1, _MASS_1), (_LENGTH_2, _MASS_2)) = POLES
_MOMENT_1, _MOMENT_2 = _LENGTH_1 * _MASS_1, _LENGTH_2 * _MASS_2


def accelerations(state: State, force: float) -> tuple[float, float, float]:
    """Return the acceleration of the cart (m/s^2) and of each pole's angle (rad/s^2) under a force (N)."""
    _, _, angle_1, speed_1, angle_2, speed_2 = state
    cos_1, sin_1, cos_2, sin_2 = math.cos(angle_1), math.sin(angle_1), math.cos(angle_2), math.sin(angle_2)
    pull_1, pull_2 = GRAVITY * sin_1, GRAVITY * sin_2
    friction_1, friction_2 = HINGE_FRICTION * speed_1 / _MOMENT_1, HINGE_FRICTION * speed_2 / _MOMENT_2
    effective_force = (
        force
        + _MOMENT_1 * speed_1 * speed_1 * sin_1
        + 0.75 * _MASS_1 * cos_1 * (friction_1 + pull_1)
        + _MOMENT_2 * speed_2 * speed_2 * sin_2
        + 0.75 * _MASS_2 * cos_2 * (friction_2 + pull_2)
    )
    effective_mass = CART_MASS + _MASS_1 * (1 - 0.75 * cos_1 * cos_1) + _MASS_2 * (1 - 0.75 * cos_2 * cos_2)
    cart = effective_force / effective_mass
    return (
        cart,
        -0.75 * (cart * cos_1 + pull_1 + friction_1) / _LENGTH_1,
        -0.75 * (cart * cos_2 + pull_2 + friction_2) / _LENGTH_2,
    )


def step(state: State, force: float, seconds: float = STEP_SECONDS) -> State:
    """Return the state after a time, by one step of the classical Runge-Kutta method."""
    half = seconds / 2
    first = _slope(state, force)
    second = _slope(_along(state, first, half), force)
    third = _slope(_along(state, second, half), force)
    fourth = _slope(_along(state, third, seconds), force)
    sixth = seconds / 6
    a, b, c, d, e, f = state
    a1, b1, c1, d1, e1, f1 = first
    a2, b2, c2, d2, e2, f2 = second
    a3, b3, c3, d3, e3, f3 = third
    a4, b4, c4, d4, e4, f4 = fourth
    return (
        a + sixth * (a1 + 2 * a2 + 2 * a3 + a4),
        b + sixth * (b1 + 2 * b2 + 2 * b3 + b4),
        c + sixth * (c1 + 2 * c2 + 2 * c3 + c4),
        d + sixth * (d1 + 2 * d2 + 2 * d3 + d4),
        e + sixth * (e1 + 2 * e2 + 2 * e3 + e4),
        f + sixth * (f1 + 2 * f2 + 2 * f3 + f4),
    )


def _slope(state: State, force: float) -> State:
    cart, pole_1, pole_2 = accelerations(state, force)
    return state[1], cart, state[3], pole_1, state[5], pole_2


def _along(state: State, slope: State, seconds: float) -> State:
    a, b, c, d, e, f = state
    a1, b1, c1, d1, e1, f1 = slope
    return (
        a + seconds * a1,
        b + seconds * b1,
        c + seconds * c1,
        d + seconds * d1,
        e + seconds * e1,
        f + seconds * f1,
    )


def moved(state: State, action: float) -> State:
    """Return the state after the steps of one action, from 0 (full force to the left) to 1 (to the right)."""
    force = (2 * action - 1) * MAX_FORCE
    for _ in range(STEPS_PER_ACTION):
        state = step(state, force)
    return state


def fell(state: State) -> bool:
    """Return whether the cart has left the track or a pole leans too far."""
    return abs(state[0]) > TRACK or abs(state[2]) > MAX_ANGLE or abs(state[4]) > MAX_ANGLE
