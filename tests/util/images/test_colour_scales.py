"""Colour scales keep the order of numbers, also without colour vision, and clusters are told apart."""

from __future__ import annotations

import numpy as np

from util.images.colour_scales import distinct_colours, diverging_colours, sequential_colours

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def test_brightness_grows_with_the_number() -> None:
    values = np.linspace(-1, 3, 60)
    brightness = sequential_colours(values, 0, 2) @ LUMINANCE
    inside = (values >= 0) & (values <= 2)
    assert (np.diff(brightness[inside]) > 0).all()
    assert len(np.unique(brightness[values <= 0])) == len(np.unique(brightness[values >= 2])) == 1


def test_signs_have_colours_of_their_own_and_zero_is_the_brightest() -> None:
    values = np.linspace(-2, 2, 41).reshape(1, 41)
    colours = diverging_colours(values, 2)
    assert colours.shape == (1, 41, 3) and colours.dtype == np.uint8
    brightness = (colours @ LUMINANCE)[0]
    assert brightness.argmax() == 20 and (np.diff(brightness[:21]) > 0).all() and (np.diff(brightness[20:]) < 0).all()
    red, _, blue = colours[0].T.astype(int)
    assert (blue > red)[:20].all() and (red > blue)[21:].all()


def test_a_map_of_one_number_has_one_colour() -> None:
    assert len(np.unique(sequential_colours(np.zeros((3, 3)), 0, 0).reshape(-1, 3), axis=0)) == 1
    assert (diverging_colours(np.zeros((3, 3)), 0) == 247).all()


def test_colours_of_clusters_differ_and_stay_within_their_hues() -> None:
    warm, cool = distinct_colours(20, (0, 60)).astype(int), distinct_colours(50, (170, 290)).astype(int)
    assert len(np.unique(np.concatenate([warm, cool]), axis=0)) == 70
    assert (warm[:, 0] > warm[:, 2]).all() and (cool[:, 2] > cool[:, 0]).all()
    assert (np.abs(np.diff(cool, axis=0)).max(axis=1) > 30).all()
