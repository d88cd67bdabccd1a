import numpy as np
from PIL import Image

from model.display.heat_map import color_bar, lay_over

GRAY = Image.new("RGB", (70, 35), (128, 128, 128))


def test_the_heaviest_region_is_the_lightest() -> None:
    regions = [[0.0] * 7 for _ in range(7)]
    regions[2][5] = 0.1
    light = np.asarray(lay_over(GRAY, regions, highest=0.1).convert("L"), int)
    row, column = np.unravel_index(light.argmax(), light.shape)
    assert [int(row) // 5, int(column) // 10] == [2, 5]
    assert light[0, 0] < 80 < 150 < light.max()


def test_the_picture_keeps_the_photos_shape() -> None:
    assert lay_over(GRAY, [[1.0, 0.0], [0.0, 0.5]], highest=1).size == GRAY.size


def test_one_scale_makes_panels_comparable() -> None:
    strong, weak = (lay_over(GRAY, [[weight]], highest=0.8).convert("L").getpixel((0, 0)) for weight in (0.8, 0.1))
    assert isinstance(strong, int)
    assert isinstance(weak, int)
    assert strong > weak


def test_the_bar_gets_lighter_all_the_way() -> None:
    shades = np.asarray(color_bar(50, 2).convert("L"), int)[0]
    assert (np.diff(shades) > 0).all()
