"""The evaluation's page: what it holds, and how it behaves in a real browser."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from tatcli.intensity import Window
from tatcli.reporting.figures import Display
from tatcli.reporting.html_page import Section, TableBlock, compare_slices, difference_display, render, write_page

DISPLAY = Display(Window(0.0, 100.0))


def slices() -> dict[str, np.ndarray]:
    """Dark, bright and half-bright slices whose upper left corner is marked; pixels twice as high as wide."""
    images = {
        "input": np.full((40, 80), 20.0),
        "network": np.full((40, 80), 80.0),
        "reference": np.full((40, 80), 50.0),
    }
    images["input"][:10, :20] = 100.0
    return images


def comparison():
    return compare_slices(
        "scan, slice 3", slices(), reference="reference", display=DISPLAY, units="HU", spacing=(2.0, 1.0)
    )


def page_text() -> str:
    table = TableBlock("Scores", ["method", "PSNR"], [["input & <co>", "30.00"]])
    section = Section(
        "ct-denoise", [table], [("plot", "<svg viewBox='0 0 1 1'></svg>"), ("empty", "")], [comparison()], ["x: y"]
    )
    return render("title <here>", [section], facts=[("command", "tat evaluate 'a b'")])


def pixels(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,")))))


def test_every_picture_has_a_source() -> None:
    """HTML wants one, even where a script sets it."""
    pictures = re.findall(r"<img [^>]*>", page_text())
    assert len(pictures) == 2 + 3 + 2
    assert all(re.search(r' src="data:[^"]+"', picture) for picture in pictures)


def test_pictures_are_greys_of_the_window() -> None:
    made = comparison()
    assert [picture.title for picture in made.pictures] == ["input", "network", "reference"]
    assert [picture.title for picture in made.differences] == ["input − reference", "network − reference"]
    assert (made.left, made.right) == (0, 1)
    first = pixels(made.pictures[0].source)
    assert (first[0, 0], first[39, 79], first.shape) == (255, 51, (40, 80))
    assert (made.pictures[0].width, made.pictures[0].height) == (512, 512)  # 80 mm by 80 mm
    assert difference_display(DISPLAY).window == Window(-25.0, 25.0)
    assert pixels(made.differences[1].source)[5, 5] == 255  # +30, beyond the window
    assert pixels(made.differences[0].source)[20, 40] == 0
    assert "window [0, 100] HU; differences ±25 HU" in made.legend


def test_large_slices_are_stored_smaller() -> None:
    image = np.zeros((1024, 700))
    made = compare_slices("", {"a": image, "r": image}, reference="r", display=DISPLAY, units="")
    assert pixels(made.pictures[0].source).shape == (512, 350)


def test_a_slice_of_one_long_row() -> None:
    image = np.zeros((1, 2000))
    made = compare_slices("", {"a": image, "r": image}, reference="r", display=DISPLAY, units="")
    assert pixels(made.pictures[0].source).shape == (1, 512)
    assert (made.pictures[0].width, made.pictures[0].height) == (512, 1)


def test_voxels_that_are_infinite_in_both_slices() -> None:
    image = np.full((4, 4), 50.0)
    image[1, 2] = np.inf
    made = compare_slices("", {"a": image, "r": image}, reference="r", display=DISPLAY, units="")
    assert pixels(made.differences[0].source)[0, 0] == 128
    assert pixels(made.pictures[0].source)[1, 2] == 255


def test_padding_that_is_no_number_is_no_difference() -> None:
    """NaN less NaN was black, as what lies a quarter of the window below the reference."""
    images = slices()
    for image in images.values():
        image[:, 40:] = np.nan
    images["network"][0, 0], images["reference"][0, 1] = np.inf, np.inf
    made = compare_slices("", images, reference="reference", display=DISPLAY, units="HU")
    low, high = (pixels(picture.source) for picture in made.differences)
    assert (low[30, 60], low[30, 10]) == (128, 0)  # padding; 30 below, beyond a quarter of 100
    assert (high[30, 60], high[30, 10], high[0, 0], high[0, 1]) == (128, 255, 255, 0)


def test_the_page_is_escaped_and_self_contained() -> None:
    text = page_text()
    assert "input &amp; &lt;co&gt;" in text
    assert "title &lt;here&gt;" in text
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?://", text)
    assert "default-src 'none'" in text


@pytest.mark.filterwarnings("default::ResourceWarning")
def test_in_a_browser(page, tmp_path) -> None:
    """It loads nothing, complains of nothing, shows pictures the right side up, and its slider moves."""
    path = tmp_path / "page.html"
    write_page(page_text(), path)
    page.open(path)
    assert page.requests() == [path.as_uri()]
    assert page.complaints() == []
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth === 80)")
    assert (
        page.evaluate("document.querySelectorAll('figcaption').length") == 6
    )  # one plot, three slices, two differences
    box = page.evaluate(
        "(b => [b.x, b.y, b.width, b.height])(document.querySelector('.stage').getBoundingClientRect())"
    )
    left, top, width, height = box
    assert width == pytest.approx(height, rel=0.01)

    def greys(name: str) -> np.ndarray:
        page.screenshot(tmp_path / name, whole=False)
        shot = np.asarray(Image.open(tmp_path / name).convert("L"), dtype=float)
        return shot[round(top) : round(top + height), round(left) : round(left + width)]

    def share(stage: np.ndarray) -> float:
        """How much of the lowest rows is the (dark) input."""
        return float((stage[-20:] < 120).mean())

    assert page.evaluate("document.querySelector('.split').value") == "50"
    before = greys("before.png")
    assert share(before) == pytest.approx(0.5, abs=0.02)
    assert before[20, 20] > 240  # the mark: above, left
    assert before[-20, 20] < 70
    page.drag((left + width / 2, top + height / 2), (left + width / 5, top + height / 2))
    assert float(page.evaluate("document.querySelector('.split').value")) == pytest.approx(20.0, abs=1.0)
    assert share(greys("after.png")) == pytest.approx(0.2, abs=0.02)
    page.evaluate("(s => {s.value = 80; s.dispatchEvent(new Event('input'))})(document.querySelector('.split'))")
    assert share(greys("range.png")) == pytest.approx(0.8, abs=0.02)
    page.evaluate("(s => {s.value = 2; s.dispatchEvent(new Event('input'))})(document.querySelector('.right'))")
    assert greys("reference.png")[-20, -20] == pytest.approx(127, abs=3)


@pytest.mark.filterwarnings("default::ResourceWarning")
def test_on_paper_and_on_a_phone(page, tmp_path) -> None:
    """A wide table has all its columns on paper, long names break, and plots stay legible in a narrow window."""
    columns = ["method", *(f"NPS mean shift {number} (1/mm)" for number in range(10))]
    table = TableBlock("Beyond the protocol", columns, [["input", *["-0.00492"] * 10]])
    plot = '<svg viewBox="0 0 640 300" width="640"></svg>'
    scan = compare_slices("a" * 200, slices(), reference="reference", display=DISPLAY, units="HU")
    write_page(render("t", [Section("s", [table], [("plot", plot)], [scan])], facts=[]), tmp_path / "page.html")
    page.call("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=False)
    page.open(tmp_path / "page.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.evaluate("document.querySelector('.plots svg').getBoundingClientRect().width") == 480
    page.call("Emulation.setDeviceMetricsOverride", width=720, height=1000, deviceScaleFactor=1, mobile=False)
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate("document.querySelector('table').offsetWidth") <= 720
    assert page.evaluate("getComputedStyle(document.querySelector('.slider')).display") == "none"
    assert page.evaluate("getComputedStyle(document.querySelector('.wide')).overflowX") == "visible"
