"""Importing is light and silent, in a fresh interpreter."""

import subprocess
import sys


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )


def test_import_is_silent_and_loads_no_heavy_package():
    result = run(
        "import sys, placerec; "
        "print([m for m in ('numpy', 'torch', 'onnxruntime', 'cv2', 'PIL') if m in sys.modules])"
    )
    assert result.stdout.strip() == "[]"
    assert result.stderr == ""


def test_help_imports_neither_torch_nor_onnxruntime():
    result = run(
        "import sys; sys.argv = ['placerec', '--help']\n"
        "from placerec.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print([m for m in ('torch', 'onnxruntime', 'cv2') if m in sys.modules])"
    )
    assert "Visual place recognition" in result.stdout
    assert result.stdout.strip().endswith("[]")


def test_every_public_name_can_be_imported():
    run("import placerec; [getattr(placerec, name) for name in placerec.__all__]")
