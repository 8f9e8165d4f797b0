import importlib.util
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from experiments.runs.recording.tensorboard_log import TensorBoardLog
from experiments.runs.results.history import History

FILE = Path(__file__).parents[2] / "docs" / "screenshot.py"
spec = importlib.util.spec_from_file_location("screenshot", FILE)
screenshot = importlib.util.module_from_spec(spec)
spec.loader.exec_module(screenshot)


@pytest.mark.skipif(screenshot.browser() is None, reason="needs Chromium")
def test_the_picture_shows_the_charts_of_a_run(tmp_path):
    history, log = History(), TensorBoardLog(tmp_path)
    for step in (0, 100):
        history.append(step, {"error/rmsve": np.array([2.0, 3.0])}, np.zeros(2, dtype=bool))
        log.write(history)
    log.close()
    screenshot.take(tmp_path, tmp_path / "picture.png", (800, 600))
    picture = imread(tmp_path / "picture.png")[..., :3]
    assert picture.shape == (600, 800, 3)
    # The bar of TensorBoard is orange; of the page of charts some pixels are the curve's colour.
    np.testing.assert_allclose(picture[5, 400], [0.96, 0.49, 0.0], atol=0.06)
    chart = picture[100:, 230:]
    coloured = chart.max(-1) - chart.min(-1) > 0.4
    assert coloured.sum() > 50
