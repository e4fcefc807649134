"""A study tries what the space allows, learns from it, survives what dies, and ends as long as was asked."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from etalage.errors import CheckpointDamaged, TrainingError
from etalage.models.search_space import Choice, FloatRange, IntRange, holds, sample
from etalage.training.tune import JOURNAL, Study, Trial, best_of, run_trials
from tests.training.trials import GIVEN, SPACE, by_epochs, dying, fragile, hopeless, measured


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "study", SPACE, GIVEN)


def test_the_first_trial_has_the_settings_as_they_stand(study: Study) -> None:
    first = run_trials(study, measured, 3)[0]
    assert first.settings == {"shape": "round", "width": 50.0}
    assert first.value == pytest.approx(1.0 - 0.49)


def test_settings_are_tried_only_where_they_act(study: Study) -> None:
    for trial in run_trials(study, measured, 25):
        assert ("corners" in trial.settings) == (trial.settings["shape"] == "square")
        assert all(holds(SPACE[name], _tupled(value)) for name, value in trial.settings.items())


def test_a_study_finds_what_chance_finds_late(study: Study) -> None:
    best = best_of(run_trials(study, measured, 40))
    assert best.settings["shape"] == "square"
    assert best.value is not None and best.value > 1.97


def test_a_study_goes_on_where_it_was(study: Study) -> None:
    began: list[Trial] = []
    run_trials(study, measured, 4, on_trial=began.append)
    went_on: list[Trial] = []
    done = run_trials(study, measured, 7, on_trial=went_on.append)
    assert [len(began), len(went_on), len(done)] == [4, 3, 7]
    assert done[:4] == began
    assert run_trials(study, measured, 7, on_trial=pytest.fail) == done


def test_the_same_seed_tries_the_same(tmp_path: Path) -> None:
    first, second, other = (
        run_trials(Study(tmp_path / name, SPACE, GIVEN, seed), measured, 12)
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert [one.settings for one in first] == [one.settings for one in second]
    assert [one.settings for one in first] != [one.settings for one in other]


def test_two_at_a_time_know_of_each_other(study: Study) -> None:
    done = run_trials(study, measured, 10, parallel=2)
    assert sorted(trial.number for trial in done) == list(range(10))
    assert len({str(trial.settings) for trial in done}) == 10


def test_a_trial_that_raises_is_failed_with_its_error_and_the_others_go_on(study: Study) -> None:
    done = run_trials(study, fragile, 20)
    states = {trial.number: trial.state for trial in done}
    assert states[0] == "failed" and "done" in states.values()
    errors = [trial.error or "" for trial in done if trial.state == "failed"]
    assert any("KeyError" in error for error in errors)
    assert any(error == "TooLittleData: nothing is round here" for error in errors)
    assert any("not a number" in error for error in errors)
    assert best_of(done).settings["shape"] == "square"


def test_where_every_trial_fails_the_reason_is_said(study: Study) -> None:
    with pytest.raises(TrainingError, match=r"all 3 trials failed; the first: .*nothing to learn from"):
        run_trials(study, hopeless, 3)


def test_a_trial_far_behind_is_stopped_early(tmp_path: Path) -> None:
    done = run_trials(Study(tmp_path, SPACE, GIVEN, prunes=True), by_epochs, 30)
    pruned = [trial for trial in done if trial.state == "pruned"]
    best = best_of(done)
    assert pruned and all(len(trial.history) < 5 for trial in pruned)
    assert len(best.history) == 5 and best.value == best.history[-1]


def test_nothing_is_stopped_where_nobody_asked_for_it(study: Study) -> None:
    assert {trial.state for trial in run_trials(study, by_epochs, 20)} == {"done"}


def test_f4_a_killed_study_is_taken_up_and_what_died_is_marked(tmp_path: Path) -> None:
    study = Study(tmp_path / "study", SPACE, GIVEN)
    script = (
        "import sys; from functools import partial; from pathlib import Path\n"
        "from etalage.training.tune import Study, run_trials\n"
        "from tests.training.trials import GIVEN, SPACE, dying\n"
        "folder = Path(sys.argv[1])\n"
        "run_trials(Study(folder / 'study', SPACE, GIVEN), partial(dying, folder), 5)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2])
    assert ended.returncode == 9
    done = run_trials(study, partial(dying, tmp_path), 5)
    assert [trial.state for trial in done].count("done") == 5
    (dead,) = [trial for trial in done if trial.state == "failed"]
    assert dead.number == 2 and dead.error == "its process ended before the trial did"


def test_a_torn_last_line_of_the_journal_is_passed_over(study: Study) -> None:
    run_trials(study, measured, 2)
    with (study.folder / JOURNAL).open("ab") as file:
        file.write(b'{"op_code": 5, "trial_')
    assert len(run_trials(study, measured, 3)) == 3


def test_a_journal_that_is_none_is_said_so(study: Study) -> None:
    run_trials(study, measured, 2)
    (study.folder / JOURNAL).write_text("{no\n")
    with pytest.raises(CheckpointDamaged, match="tune with --fresh"):
        run_trials(study, measured, 3)


def test_a_dimension_waits_for_what_it_depends_on() -> None:
    space = {
        "a": Choice((1, 2)),
        "b": IntRange(0, 5, when={"a": (2,)}),
        "c": FloatRange(0, 1, when={"b": (3,)}),
    }
    assert sample(space, {"b": 3}, lambda name, _: {"a": 1, "c": 0.5}[name]) == {"a": 1, "c": 0.5}
    assert sample(space, {}, lambda name, _: {"a": 2, "b": 4}[name]) == {"a": 2, "b": 4}


def _tupled(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
