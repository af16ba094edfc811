"""Figures: right side up, right greys, right size."""

from itertools import permutations, product

import numpy as np
import pytest
from PIL import Image

from tatcli.errors import OutputError, UsageError
from tatcli.intensity import Window
from tatcli.reporting.figures import SIDES, Display, Panel, before_after, display_for, upright, write_png
from tatcli.tasks import find_task
from tatcli.volumes.geometry import Geometry

ORIENTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((-1, 1), repeat=3)]


def patient(order, signs):
    """A scan whose voxel values say where they are: value = 100 x + 10 y + z in LPS steps 0, 1, 2, 3."""
    spacing = (2.0, 3.0, 5.0)  # along LPS x, y, z
    sizes = (2, 3, 4)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for index_axis, (lps, sign) in enumerate(zip(order, signs, strict=True)):
        affine[lps, index_axis] = sign * spacing[lps]
        if sign < 0:
            affine[lps, 3] = (sizes[lps] - 1) * spacing[lps]
    shape = tuple(sizes[order[2 - array_axis]] for array_axis in range(3))
    geometry = Geometry(affine, shape)
    s, r, c = np.indices(shape)
    where = np.einsum("ij,j...->i...", affine[:3, :3], np.stack([c, r, s])) + affine[:3, 3].reshape(3, 1, 1, 1)
    x, y, z = (where[i] / spacing[i] for i in range(3))
    return (100 * x + 10 * y + z).astype(np.float32), geometry


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_slices_are_upright_in_all_48_orientations(order, signs):
    frame, geometry = patient(order, signs)
    sagittal, coronal, axial = geometry.anatomical_axes

    image, spacing = upright(frame, geometry, axis=axial, index=0)
    z = image[0, 0] % 10
    np.testing.assert_array_equal(image, [[z, 100 + z], [10 + z, 110 + z], [20 + z, 120 + z]])  # left at the right
    assert spacing == (3.0, 2.0)

    image, spacing = upright(frame, geometry, axis=coronal, index=0)
    y = image[0, 0] // 10 % 10 * 10
    np.testing.assert_array_equal(image, [[y + 3 - up, y + 103 - up] for up in range(4)])  # superior above
    assert spacing == (5.0, 2.0)

    image, spacing = upright(frame, geometry, axis=sagittal, index=0)
    x = image[0, 0] // 100 * 100
    np.testing.assert_array_equal(image, [[x + 3 - up, x + 13 - up, x + 23 - up] for up in range(4)])  # anterior left
    assert spacing == (5.0, 3.0)


def test_window_ends_are_black_and_white_and_inversion_swaps_them():
    values = np.array([[-1000.0, -160.0, 40.0, 240.0, 3000.0, np.nan, np.inf]])
    plain = Display(Window(-160.0, 240.0))
    np.testing.assert_array_equal(plain.to_grey(values), [[0, 0, 128, 255, 255, 0, 255]])
    inverted = Display(Window(-160.0, 240.0), inverted=True)
    np.testing.assert_array_equal(inverted.to_grey(values), [[255, 255, 128, 0, 0, 255, 0]])


def test_each_modality_has_its_customary_display():
    values = np.append(np.arange(1.0, 1001.0), [-5.0, np.nan])
    assert display_for(find_task("ct"), values) == Display(Window(-160.0, 240.0))
    assert display_for(find_task("pet"), values) == Display(Window(0.0, 5.0), inverted=True)
    mri = display_for(find_task("mri"), values)
    assert (mri.window.lower, mri.inverted) == (0.0, False)
    assert mri.window.upper == pytest.approx(np.percentile(np.arange(1.0, 1001.0), 99.5))
    assert display_for(find_task("mri"), np.zeros(3)).window == Window(0.0, 1.0)


def test_panels_stand_side_by_side_with_their_greys():
    dark, bright = np.zeros((32, 32)), np.full((32, 32), 0.5)
    sheet = before_after([Panel("a", dark), Panel("b\nc", bright)], Display(Window(0.0, 1.0)), height=32)
    pixels = np.asarray(sheet)
    assert sheet.size == (8 + 32 + 8 + 32 + 8, 8 + 2 * 15 + 8 + 32 + 8)
    assert (pixels[-40:-8, 8:40] == 0).all()
    assert (pixels[-40:-8, 48:80] == 128).all()
    assert (pixels[-7:] == 255).all()
    assert pixels[:40, 8:40].min() < 128  # a title is there


def test_unequal_spacing_becomes_square_pixels():
    sheet = before_after([Panel("coronal", np.zeros((10, 50)), (5.0, 1.0))], Display(Window(0.0, 1.0)), height=100)
    assert sheet.width == 8 + 100 + 8


def test_letters_stand_at_the_left_and_the_upper_edge():
    def picture(sides):
        panel = Panel("", np.full((60, 100), 0.5), sides=sides)
        return np.asarray(before_after([panel], Display(Window(0.0, 1.0)), height=240))[-248:-8, 8:408]

    bare = picture(("", ""))
    assert set(np.unique(bare)) == {128}
    rows, columns = np.nonzero(picture(SIDES["sagittal"]) != bare)
    left, top = columns < 40, rows < 40
    assert (left ^ top).all()
    np.testing.assert_allclose([rows[left].mean(), columns[top].mean()], [120, 200], atol=3)
    assert columns[left].min() >= 4
    assert rows[top].min() >= 4
    for letter, there in (("A", left), ("S", top)):
        alone = picture((letter, "") if letter == "A" else ("", letter)) != bare
        assert alone.sum() == there.sum()


def test_titles_wider_than_their_pictures_are_neither_cut_off_nor_run_into_each_other():
    narrow = np.ones((64, 2))
    title = "restored - input\n±100 HU"
    alone = np.asarray(before_after([Panel(title, narrow)], Display(Window(0.0, 1.0)), height=64)) < 128
    both = np.asarray(before_after([Panel(title, narrow), Panel(title, narrow)], Display(Window(0.0, 1.0)), height=64))
    text = slice(0, 8 + 2 * 15)
    written = np.flatnonzero(alone[text].any(axis=0))
    assert 80 < written.max() < alone.shape[1] - 8  # the end of the title, and the margin beside it
    pitch = (both.shape[1] - 8) // 2
    np.testing.assert_array_equal((both < 128)[text, 8 : 8 + pitch], (both < 128)[text, 8 + pitch :])


def test_a_very_wide_slice_is_less_high_and_keeps_its_square_pixels():
    stripes = np.tile([0.0, 1.0], (10, 150))  # 300 columns, 10 rows
    sheet = before_after([Panel("wide", stripes)], Display(Window(0.0, 1.0)), height=64)
    top = 8 + 15 + 8
    assert sheet.size == (8 + 256 + 8, top + 9 + 8)  # 256 / 30, rounded


def test_a_white_picture_has_a_frame_on_the_white_sheet():
    sheet = before_after([Panel("PET", np.zeros((32, 32)))], Display(Window(0.0, 5.0), inverted=True), height=32)
    pixels = np.asarray(sheet)
    top = 8 + 15 + 8
    assert (pixels[top : top + 32, 8:40] == 255).all()
    frame = np.concatenate([pixels[top - 1, 7:41], pixels[top + 32, 7:41], pixels[top:-7, 7], pixels[top:-7, 40]])
    assert (frame == 200).all()


@pytest.mark.parametrize("panels", [[], [Panel("volume", np.zeros((2, 2, 2)))]])
def test_a_figure_needs_two_dimensional_panels(panels):
    with pytest.raises(ValueError, match="figure: expected"):
        before_after(panels, Display(Window(0.0, 1.0)))


def test_png_holds_the_figure_and_is_not_overwritten_unasked(tmp_path):
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    path = write_png(image, tmp_path / "figure.png")
    with Image.open(path) as back:
        np.testing.assert_array_equal(np.asarray(back), np.asarray(image))
    with pytest.raises(OutputError, match="expected a new file"):
        write_png(image, path)
    write_png(image, path, overwrite=True)
    with pytest.raises(OutputError, match="expected an existing folder"):
        write_png(image, tmp_path / "missing" / "figure.png")
    with pytest.raises(UsageError, match=r"figure\.jpg: expected a name ending in \.png"):
        write_png(image, tmp_path / "figure.jpg")
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]
