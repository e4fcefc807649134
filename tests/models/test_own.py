"""A shop's own models are listed by reading their files, and run only when these very bytes are trusted."""

import os
import py_compile
import sys
from pathlib import Path
from typing import Any

import pytest

from etalage.errors import ConfigError, DataError, NotTrusted
from etalage.models import recipe as recipes
from etalage.models.own import LARGEST, TAKEN, Models, trust
from tests.own_models import TINY, put, shown

RAN = "open({mark!r}, 'a').write('ran')\n"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    return tmp_path / "shop"


def trust_all(shop: Path) -> Models:
    models = Models(shop)
    trust(models.folder, {f"{one.name}.py": one.sha256 for one, _ in models.sources()})
    return models


def test_without_the_folder_there_are_etalages_models(shop: Path) -> None:
    assert Models(shop).listed() == recipes.listed()
    assert Models(shop).find("popularity") is recipes.find("popularity")


def test_the_models_of_the_page_are_listed_with_role_and_data(shop: Path) -> None:
    put(shop, shown("also_bought", "fossil"))
    own = {name: (one.role, one.data) for name, one in Models(shop).listed().items() if one.own}
    assert own == {"also_bought": ("closed_form", "behaviour"), "fossil": ("embedder", "behaviour")}


def test_listing_runs_nothing(shop: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    put(shop, {"tiny.py": RAN.format(mark=str(mark)) + TINY, "_helper.py": RAN.format(mark=str(mark))})
    models = Models(shop)
    models.listed(), models.readable(), models.known("tiny", "here"), list(models.sources())
    with pytest.raises(
        NotTrusted, match=r"tiny\.py: this file is not trusted yet, and nothing of it was run"
    ):
        models.find("tiny")
    assert not mark.exists()
    trust_all(shop)
    assert models.find("tiny").name == "tiny" and mark.read_text() == "ran"
    models.find("tiny")
    assert mark.read_text() == "ran", "once a process"


def test_a_file_that_changed_is_asked_about_again(shop: Path) -> None:
    put(shop, {"tiny.py": TINY})
    models = trust_all(shop)
    before = models.find("tiny")
    put(shop, {"tiny.py": TINY.replace('"none"', '"another"')})
    with pytest.raises(NotTrusted, match=f"changed since it was trusted.*etalage trust --shop {shop}"):
        models.find("tiny")
    trust_all(shop)
    after = models.find("tiny")
    assert (before.paper, after.paper) == ("none", "another")
    assert before.source is not None and after.source is not None
    assert before.source.sha256 != after.source.sha256


def test_a_new_file_beside_trusted_ones_is_asked_about(shop: Path) -> None:
    put(shop, {"tiny.py": TINY})
    models = trust_all(shop)
    put(shop, {"tinier.py": TINY.replace('"tiny"', '"tinier"')})
    with pytest.raises(NotTrusted, match="tinier"):
        models.find("tinier")
    assert models.find("tiny").name == "tiny"


def test_a_copied_shop_brings_no_trust_along(shop: Path, tmp_path: Path) -> None:
    put(shop, {"tiny.py": TINY})
    trust_all(shop)
    shop.rename(tmp_path / "moved")
    with pytest.raises(NotTrusted):
        Models(tmp_path / "moved").find("tiny")


def test_compiled_code_beside_the_file_is_never_run(shop: Path, tmp_path: Path) -> None:
    """Python would take a `.pyc` that says that it is of this file, and nobody has read what is in it."""
    put(shop, {"tiny.py": TINY})
    models = trust_all(shop)
    file, planted = shop / "models" / "tiny.py", tmp_path / "planted.py"
    planted.write_text(TINY.replace('"none"', '"planted"'), encoding="utf-8")
    os.utime(planted, (file.stat().st_atime, file.stat().st_mtime))
    cached = Path(sys.implementation.cache_tag and f"__pycache__/tiny.{sys.implementation.cache_tag}.pyc")
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(planted), str(file.parent / cached), invalidation_mode=mode)
    assert models.find("tiny").paper == "none"


def test_the_shops_folders_are_on_no_module_path(shop: Path) -> None:
    put(shop, {"tiny.py": "import sys\nPATH = list(sys.path)\n" + TINY})
    before = list(sys.path)
    source = trust_all(shop).find("tiny").source
    assert source is not None and sys.modules[source.module].PATH == before == sys.path
    assert not [one for one in sys.path if one.startswith(str(shop))]


WRONG: dict[str, tuple[str, str]] = {
    "item_knn.py": (TINY.replace('"tiny"', '"item_knn"'), "item_knn is a model of Etalage"),
    "photos.py": (TINY.replace('"tiny"', '"photos"'), "photos is a name that Etalage uses otherwise"),
    "Tiny.py": (TINY.replace('"tiny"', '"Tiny"'), "'Tiny' is no name of a model"),
    "other.py": (TINY, "name = 'tiny', and the file is called other.py"),
    "half.py": ("def half(:\n", "line 1: not Python"),
    "zero.py": ("x = '\0'\n", "not Python"),
    "role.py": (
        TINY.replace('"closed_form"', '"countre"'),
        "role = 'countre'; expected 'closed_form' or 'embedder'",
    ),
    "norole.py": (TINY.replace(' role="closed_form",', ""), "role is not written out as a text"),
    "data.py": (
        TINY.replace('"behaviour"', '"behavior"'),
        "role = 'closed_form': data = 'behavior'; expected 'behaviour'",
    ),
    "nodata.py": (TINY.replace('data="behaviour"', "data=WHAT"), "data is not written out as a text"),
    "forgotten.py": (TINY.replace('data="behaviour"', ""), "data is not written out as a text"),
    "unfit.py": (TINY.replace('"behaviour"', '"photos"'), "role = 'closed_form': data = 'photos'"),
    "call.py": ("RECIPE = 3\n", "RECIPE is not written as Recipe("),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_file_is_told_without_running_it(shop: Path, name: str) -> None:
    text, told = WRONG[name]
    put(shop, {name: text})
    with pytest.raises(ConfigError) as caught:
        Models(shop).listed()
    assert str(caught.value).startswith(str(shop / "models" / name)) and told in str(caught.value)
    listed, unread = Models(shop).readable()
    assert Path(name).stem in {*listed, *unread}, "who needs another model goes on"
    assert Models(shop).find("popularity").name == "popularity"


RAISING: dict[str, tuple[str, str]] = {
    "raises": (f"{TINY}1 / 0\n", f"line {len(TINY.splitlines()) + 1}: ZeroDivisionError"),
    "neighbour": (f"from .other import x\n{TINY}", "a model is one file"),
    "missing": (f"import no_such_package\n{TINY}", "the shop's folder is on no module path"),
    "twice": (
        f'{TINY}\nimport dataclasses\nglobals()["RECIPE"] = dataclasses.replace(RECIPE, name="b")\n',
        "'b'",
    ),
    "none": (f'{TINY}\nglobals()["RECIPE"] = None\n', "RECIPE is no Recipe"),
}


@pytest.mark.parametrize("case", RAISING)
def test_a_trusted_file_that_cannot_be_run_is_named_with_its_line(shop: Path, case: str) -> None:
    text, told = RAISING[case]
    put(shop, {"tiny.py": text})
    models = trust_all(shop)
    for _ in range(2):  # the second time it is no half-made module that is found
        with pytest.raises(ConfigError) as caught:
            models.find("tiny")
        assert str(caught.value).startswith(str(shop / "models" / "tiny.py")) and told in str(caught.value)


@pytest.mark.parametrize("name", recipes.names())
def test_each_of_ours_would_do_as_a_shops_own(shop: Path, project: Path, name: str) -> None:
    text = (project / "etalage" / "models" / f"{name}.py").read_text(encoding="utf-8")
    recipe, listed = recipes.find(name), recipes.listed()[name]
    text = text.replace(f'name="{name}"', 'name="mine"')
    put(
        shop,
        {"mine.py": text if 'data="' in text else text.replace('name="mine"', 'name="mine", data="photos"')},
    )
    found = trust_all(shop).listed()["mine"]
    assert (found.role, found.data) == (listed.role, listed.data)
    mine = Models(shop).find("mine")
    assert mine.columns == recipe.columns and {*mine.config.model_fields} == {*recipe.config.model_fields}


def test_a_link_out_of_the_folder_is_refused(shop: Path, tmp_path: Path) -> None:
    put(tmp_path, {"tiny.py": TINY})
    (shop / "models").mkdir()
    (shop / "models" / "tiny.py").symlink_to(tmp_path / "models" / "tiny.py")
    with pytest.raises(ConfigError, match="out of the folder"):
        Models(shop).listed()


def test_a_folder_that_is_a_link_out_of_the_shop_is_refused(shop: Path, tmp_path: Path) -> None:
    put(tmp_path, {"tiny.py": TINY})
    (shop / "models").symlink_to(tmp_path / "models")
    with pytest.raises(ConfigError, match="out of the folder"):
        Models(shop).listed()


def test_what_is_no_ordinary_file_of_some_size_is_refused(shop: Path) -> None:
    put(shop, {"tiny.py": TINY + "#" * LARGEST})
    with pytest.raises(ConfigError, match="no file of at most 1 MiB"):
        Models(shop).listed()
    (shop / "models" / "tiny.py").unlink()
    os.mkfifo(shop / "models" / "pipe.py")
    with pytest.raises(ConfigError, match="no file of at most"):  # and does not wait for a writer
        Models(shop).listed()


def test_a_name_that_nobody_has_is_told_with_the_shops_own_names(shop: Path) -> None:
    put(shop, {"tiny.py": TINY, "notes.py": "recipe = None\n"})
    with pytest.raises(ConfigError, match="no model 'tine'; did you mean 'tiny'"):
        Models(shop).find("tine")
    with pytest.raises(ConfigError, match=r"notes\.py is no model: it has no line `RECIPE = Recipe"):
        Models(shop).find("notes")


def test_no_model_of_ours_has_a_name_that_is_taken() -> None:
    assert not {*TAKEN} & {*recipes.names()}


# -- the note ----------------------------------------------------------------------------------


def note(state: Path) -> Path:
    (found,) = (state / "etalage" / "trusted").iterdir()
    return found


def test_the_note_is_the_users_alone_and_outside_the_shop(shop: Path, state: Path) -> None:
    put(shop, {"tiny.py": TINY})
    trust_all(shop)
    assert note(state).stat().st_mode & 0o777 == 0o600
    assert [one.name for one in shop.iterdir()] == ["models"]


@pytest.mark.parametrize("damage", ["others may write it", "not JSON", "a list", "of another folder"])
def test_a_note_that_is_not_to_be_relied_on_trusts_nothing(shop: Path, state: Path, damage: str) -> None:
    put(shop, {"tiny.py": TINY})
    models = trust_all(shop)
    file, wanted = note(state), DataError
    if damage == "others may write it":
        file.chmod(0o666)
    elif damage == "of another folder":
        file.write_text(file.read_text().replace(str(shop), "/elsewhere"))
        wanted = NotTrusted
    else:
        file.write_text({"not JSON": "{", "a list": "[]"}[damage])
    with pytest.raises(wanted):
        models.find("tiny")


def test_trust_can_be_taken_back(shop: Path, state: Path) -> None:
    put(shop, {"tiny.py": TINY})
    models = trust_all(shop)
    trust(models.folder, {})
    with pytest.raises(NotTrusted):
        models.find("tiny")


def test_a_state_folder_that_cannot_be_written_is_told(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match="XDG_STATE_HOME names another folder"):
        trust(shop / "models", {"a.py": "b"})


def test_the_users_own_state_folder_is_the_default(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home: Any = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    for unset in ("", "relative/folder"):
        monkeypatch.setenv("XDG_STATE_HOME", unset)
        assert trust(shop / "models", {"a.py": "b"}).is_relative_to(home / ".local" / "state" / "etalage")
