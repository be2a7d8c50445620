import math

import pytest

from cbirbench.report.training import training_runs, training_warnings


def test_first_and_last_epoch_whatever_the_order_of_rows(training):
    good, bad = training_runs(training)
    assert (good.extractor, good.run, good.epochs) == ("simsiam-hu-clip", 0, 2)
    assert (good.first_loss, good.last_loss, good.deviation) == (-0.25, -0.75, 0.03)
    assert good.even == pytest.approx(1 / math.sqrt(512))
    assert (bad.first_loss, bad.last_loss) == (-0.625, -0.5)


def test_collapse_and_a_loss_that_rose_are_warned_of(training):
    (warning,) = training_warnings(training)
    assert warning == (
        "simsiam-hu-clip, run 1: embeddings collapsed (deviation below 0.3/sqrt(d)); the loss did not fall."
    )


def test_the_threshold_is_three_tenths_of_the_even_deviation(training):
    edge = 0.3 / math.sqrt(512)
    training.loc[2, "embedding_std"] = edge * 1.001
    assert "collapsed" not in training_warnings(training)[0]
    training.loc[2, "embedding_std"] = edge * 0.999
    assert "collapsed" in training_warnings(training)[0]


def test_a_loss_that_is_no_number_is_warned_of(training):
    training.loc[1, "loss"] = math.nan
    assert training_warnings(training)[0] == "simsiam-hu-clip, run 0: the loss is not a number."


def test_what_was_not_watched_is_not_judged(training):
    runs = training_runs(training.drop(columns=["embedding_std", "embedding_dim"]))
    assert math.isnan(runs[1].deviation)
    assert runs[1].warning == "the loss did not fall"


def test_nothing_trained(training):
    assert training_runs(None) == training_warnings(training.iloc[:0]) == []


def test_a_single_epoch_has_no_course_to_judge(training):
    assert training_warnings(training.iloc[:1]) == []
