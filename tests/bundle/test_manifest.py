"""verify: every file of a bundle is hashed, and nothing else may be there."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest

from etalage.bundle.manifest import (
    FORMAT,
    MANIFEST,
    Manifest,
    identify,
    is_bundle_id,
    read_manifest,
    verify,
)
from etalage.errors import BundleDamaged, BundleError
from tests.bundle.forged import rehash, writable
from tests.shops import small_shop


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A whole bundle whose files may be written."""
    _, bundles, manifest = small_shop(tmp_path, 12)
    folder = bundles.path(manifest.id)
    writable(folder)
    return folder


class Marker:
    """Unpickled, it leaves a file behind."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)


def test_a_whole_bundle_passes_and_its_manifest_is_read_back_as_written(bundle: Path) -> None:
    manifest = verify(bundle)
    assert manifest == read_manifest(bundle)
    assert manifest.id == bundle.name
    on_disk = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert set(manifest.files) == on_disk - {MANIFEST}
    assert len(manifest.files) == 11


def test_f13_a_flipped_byte_in_any_file_is_refused_with_its_name(bundle: Path) -> None:
    for name, facts in verify(bundle).files.items():
        file = bundle / name
        whole = file.read_bytes()
        for at in (0, facts.bytes // 2, facts.bytes - 1):
            broken = bytearray(whole)
            broken[at] ^= 0x10
            file.write_bytes(broken)
            with pytest.raises(BundleDamaged, match=name):
                verify(bundle)
        for other in (whole[:-1], whole + b"\0", b""):
            file.write_bytes(other)
            with pytest.raises(BundleDamaged, match=name):
                verify(bundle)
        file.write_bytes(whole)
    verify(bundle)


def test_f13_a_missing_file_is_refused_with_its_name(bundle: Path) -> None:
    for name in verify(bundle).files:
        file = bundle / name
        aside = bundle.parent / "aside"
        file.rename(aside)
        with pytest.raises(BundleDamaged, match=f"{name} is missing"):
            verify(bundle)
        aside.rename(file)
    (bundle / MANIFEST).unlink()
    with pytest.raises(BundleDamaged, match=r"manifest\.json is missing"):
        verify(bundle)


def test_f13_a_flipped_byte_anywhere_in_the_manifest_is_refused(bundle: Path) -> None:
    file = bundle / MANIFEST
    whole = file.read_bytes()
    for at in range(0, len(whole) - 1, 3):  # the last byte is the closing newline
        broken = bytearray(whole)
        broken[at] ^= 1
        file.write_bytes(broken)
        with pytest.raises(BundleError, match=r"manifest\.json"):  # format 2 with a bit flipped is format 3
            verify(bundle)
    for other in (b"", b"[]", b"null", whole[: len(whole) // 2], b"[" * 100_000, b"\xff\xfe"):
        file.write_bytes(other)
        with pytest.raises(BundleDamaged, match=r"manifest\.json"):
            verify(bundle)


def test_a_manifest_of_another_folder_is_refused(bundle: Path) -> None:
    other = bundle.with_name("b000009-00000000")
    bundle.rename(other)
    with pytest.raises(BundleDamaged, match="does not fit"):
        verify(other)


def test_f15_a_planted_pickle_is_refused_by_name_and_never_opened(bundle: Path, tmp_path: Path) -> None:
    marker = tmp_path / "was-run"
    for name in ("weights.pkl", "indexes/extra.npy", "models/sitecustomize.py", ".hidden"):
        planted = bundle / name
        planted.write_bytes(pickle.dumps(Marker(marker)))
        with pytest.raises(BundleDamaged, match=f"{name} is not listed"):
            verify(bundle)
        planted.unlink()
    assert not marker.exists()
    pickle.loads(pickle.dumps(Marker(marker)))  # noqa: S301  the marker itself works
    assert marker.exists()


def test_a_link_in_a_bundle_is_refused_even_to_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    file = bundle / "items.arrow"
    outside = tmp_path / "outside.arrow"
    shutil.move(file, outside)
    file.symlink_to(outside)
    with pytest.raises(BundleDamaged, match=r"items\.arrow"):
        verify(bundle)
    file.unlink()
    shutil.move(outside, file)
    verify(bundle)
    (bundle / "more").symlink_to(tmp_path)
    with pytest.raises(BundleDamaged, match="more is not listed"):
        verify(bundle)
    (bundle / "more").unlink()
    shutil.move(bundle / "indexes", tmp_path / "indexes")
    (bundle / "indexes").symlink_to(tmp_path / "indexes")
    with pytest.raises(BundleDamaged, match="index"):
        verify(bundle)


def test_f58_a_bundle_of_a_newer_format_is_a_clear_error(bundle: Path) -> None:
    newer = rehash(bundle, format=FORMAT + 1, surprise={"from": "the future"})
    with pytest.raises(BundleError, match=rf"format {FORMAT + 1}.*upgrade Etalage") as caught:
        verify(newer)
    assert not isinstance(caught.value, BundleDamaged)


def test_an_unknown_or_wrong_field_is_named(bundle: Path) -> None:
    changed = rehash(bundle, surprise=1)
    with pytest.raises(BundleDamaged, match="surprise"):
        read_manifest(changed)


def test_the_id_is_that_of_the_content(bundle: Path) -> None:
    content = json.loads((bundle / MANIFEST).read_bytes())
    assert identify(content) == bundle.name
    assert identify({**content, "items": content["items"] + 1}) != bundle.name
    assert identify({**content, "id": "anything"}) == bundle.name


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("b000001-0123abcd", True),
        ("b1234567-0123abcd", True),
        ("b000001-0123abcd\n", False),
        ("b000001-0123ABCD", False),
        ("../b000001-0123abcd", False),
        ("b000001-0123abcd/..", False),
        ("b00001-0123abcd", False),
        ("b٠٠٠٠٠١-0123abcd", False),
        ("", False),
    ],
)
def test_only_an_id_is_an_id(text: str, fine: bool) -> None:
    assert is_bundle_id(text) is fine


def test_a_manifest_never_changes(bundle: Path) -> None:
    manifest: Manifest = verify(bundle)
    with pytest.raises(ValueError, match="frozen"):
        manifest.items = 3
