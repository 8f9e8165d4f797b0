"""The best setting of the other logs of a problem: by hand, and on a short walk."""

import numpy as np

from benchmarks.accuracy import best_setting, cases
from benchmarks.accuracy.cases import made_case
from benchmarks.accuracy.criteria import candidate_errors
from neural_tdc.baselines.log_preparation import ordered_stream
from neural_tdc.baselines.search.learned_candidates import learn_candidates
from neural_tdc.best_value import FOLDS


def test_a_log_has_no_say_in_its_own_setting_and_divergence_excludes_one():
    errors = np.array([[1.0, 4.0, 2.0], [9.0, 2.0, 3.0], [1.0, 2.0, np.inf]])
    # Log 0: the others' products are 9, 4, inf; log 1: 1, 8, inf; log 2: 9, 8, 6.
    np.testing.assert_array_equal(best_setting.best_of_other_logs(errors), [4, 9, np.inf])
    logs = [dict(zip("abc", row, strict=True), auto=3.0) for row in errors.tolist()]
    found = best_setting.relative_errors(logs)
    np.testing.assert_allclose(found["setting"], [4, 4.5, np.inf])
    np.testing.assert_allclose(found["auto"], [3, 1.5, 3])


def test_every_setting_of_a_log_has_the_error_of_its_candidate(monkeypatch):
    monkeypatch.setattr(cases, "TRANSITIONS", 400)
    walk = made_case("random-walk-tabular", 0)
    found = best_setting.errors_of_log(walk, 1, width=8)
    candidates = learn_candidates(ordered_stream(walk.stream), FOLDS, 1, 8, 0)
    assert len(found) == len(candidates.names) + 1
    errors = candidate_errors(candidates, walk).tolist()
    assert [*found.values()][:-1] == errors
    assert 0.3 * min(errors) < found["auto"] < max(errors)
