"""The benchmark of what an RMSPBE of 0 is measured as."""

from benchmarks.held_out_noise import noise_table, signed_root


def test_the_estimate_without_bias_is_nearer_to_zero_than_the_plug_in():
    small, large = noise_table("CartPole-v1", "soft", [150, 1200], 2400, 5)
    assert (small.transitions, large.transitions) == (150, 1200)
    assert abs(small.without_bias) < small.plug_in
    assert large.plug_in < small.plug_in
    assert 0 <= small.negative <= 1
    assert small.floor > large.floor > 0


def test_a_negative_mean_square_has_a_negative_root():
    assert (signed_root(-4.0), signed_root(9.0)) == (-2.0, 3.0)
