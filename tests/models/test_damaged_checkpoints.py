"""Checkpoints that are damaged or would run code are refused with the reason."""

import io
import pickle
import zipfile

import pytest
import torch

from placerec.errors import UnsafeWeights
from placerec.models.checkpoints import import_checkpoint


class Hostile:
    def __reduce__(self):
        return (open, ("ran.txt", "w"))


@pytest.mark.parametrize("kind", ["pickle", "zip", "list", "cut"])
def test_a_hostile_or_broken_file_is_one_line_and_leaves_nothing(
    command, tmp_path, monkeypatch, kind
):
    monkeypatch.chdir(tmp_path)
    wrong = tmp_path / "wrong.pth.tar"
    content = Hostile() if kind == "zip" else torch.ones(64, 64)
    torch.save([1, 2] if kind == "list" else {"state_dict": {"pool.centroids": content}}, wrong)
    if kind == "pickle":
        wrong.write_bytes(pickle.dumps(Hostile()))
    elif kind == "cut":
        wrong.write_bytes(wrong.read_bytes()[:-1000])
    before = set(tmp_path.iterdir())
    code, out, err = command("weights", "import", wrong, "out.safetensors")
    assert (code, out) == (4, "")
    (line,) = err.splitlines()
    assert line.startswith(f"error: {wrong}: invalid weights")
    assert set(tmp_path.iterdir()) == before


def damaged(whole: bytes, kind: str) -> bytes:
    """Return a file of this kind in place of the checkpoint ``whole``, a zip archive."""
    if kind == "changed value":  # in the middle of a tensor
        middle = len(whole) // 2
        return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    if kind == "changed pickle":  # an instruction to fetch object 174812789, with right checksums
        target = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(whole)) as archive, zipfile.ZipFile(target, "w") as out:
            for name in archive.namelist():
                data = archive.read(name)
                if name.endswith("data.pkl"):
                    data = data[:2] + b"j" + (174812789).to_bytes(4, "little") + data[2:]
                out.writestr(name, data)
        return target.getvalue()
    return {
        "cut": whole[:-1000], "empty": b"", "text": b"no checkpoint\n", "greeting": b"hello\n",
        "cut pickle": b"\x80\x02}", "program": pickle.dumps(Hostile(), 2),
    }[kind]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("changed value", r"damaged zip archive: the checksum of .*data/\d+ is wrong"),
        ("changed pickle", r"refers to an object that is not in it \(KeyError: 174812789\)"),
        ("cut", "a cut zip archive: its end is missing"),
        ("empty", "it ends too early"),
        ("cut pickle", "it ends too early"),
        ("text", r"an instruction that .*Unsupported operand 110"),
        ("greeting", r"refers to an object that is not in it"),
        ("program", "an instruction that .*Unsupported global: GLOBAL .*open"),
    ],
)
def test_a_damaged_checkpoint_says_what_is_wrong(tmp_path, kind, why):
    wrong = tmp_path / "wrong.pth.tar"
    torch.save({"state_dict": {"pool.centroids": torch.ones(64, 64)}}, wrong)
    with pytest.raises(UnsafeWeights, match=r"tensor encoder\.0\.weight is missing"):
        import_checkpoint(wrong)
    wrong.write_bytes(damaged(wrong.read_bytes(), kind))
    with pytest.raises(UnsafeWeights, match=why):
        import_checkpoint(wrong)
