import pytest
import torch

from neural_tdc import byte_rows
from neural_tdc.metrics.stream_values import StreamValues

TIME, CANDIDATES = 7, 3


@pytest.mark.parametrize("rows", [3, 100])
@pytest.mark.parametrize("kept", [torch.float32, torch.float64])
def test_sums_over_stored_values_are_those_of_whole_tensors(monkeypatch, rows, kept):
    monkeypatch.setattr(byte_rows, "rows_at_once", lambda values: rows)
    source = torch.Generator().manual_seed(2)
    value = torch.randn(TIME, CANDIDATES, generator=source).to(kept)
    apart = torch.tensor([0, 2, 6])
    apart_value = torch.randn(3, CANDIDATES, generator=source).to(kept)
    values = StreamValues(value, apart, apart_value)
    whole = value.double()
    following = torch.cat([whole[1:], whole[:1]])
    following[apart] = apart_value.double()
    at_both = [torch.cat(each) for each in zip(*(pair for _, *pair in values.blocks()))]
    assert torch.equal(at_both[0], whole)
    assert torch.equal(at_both[1], following)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    for found, expected in zip(values.weighted(weights), (whole, following)):
        torch.testing.assert_close(found, expected @ weights)
    target = torch.arange(TIME, dtype=torch.float64)
    torch.testing.assert_close(values.products(target), whole.T @ target / TIME)
    torch.testing.assert_close(values.gram(), whole.T @ whole / TIME)


@pytest.mark.parametrize(("name", "place"), [("value", (5, 1)), ("apart_value", (0, 1))])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_candidate_with_a_value_that_is_not_finite_is_left_out(name, place, wrong):
    values = StreamValues(torch.ones(TIME, 3), torch.tensor([6]), torch.ones(1, 3))
    assert values.of(values.finite) is values
    getattr(values, name)[place] = wrong
    assert values.finite.tolist() == [True, False, True]
    assert values.of(values.finite).value.shape == (TIME, 2)
    assert bool(values.of(values.finite).finite.all())
