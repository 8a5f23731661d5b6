"""The wheel, built and used outside the clone with nothing but NumPy and ml_dtypes beside it."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "https://github.com/fusemax/fusemax"

pytestmark = pytest.mark.package


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = directory.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Runs a Python that sees the wheel, NumPy and ml_dtypes and nothing else that is installed."""
    base = tmp_path_factory.mktemp("installed")
    environment = base / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=60)
    (site,) = environment.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run([*pip, "--disable-pip-version-check"], check=True, timeout=120)
    for name in ("numpy", "ml_dtypes"):
        distribution = importlib.metadata.distribution(name)
        for top in {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}:
            (site / top).symlink_to(str(distribution.locate_file(top)))
    outside = base / "outside"
    outside.mkdir()
    variables = {"PATH": os.environ["PATH"], "PYTHONNOUSERSITE": "1"}

    def run(*arguments: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
        command = [str(environment / "bin" / "python"), "-W", "error", *arguments]
        done = subprocess.run(command, cwd=outside, env=variables, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return message_from_bytes(archive.read("fusemax-0.1.0.dist-info/METADATA"))


def test_contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"fusemax", "fusemax_hw", "fusemax_sim", "fusemax-0.1.0.dist-info"}
    assert {"fusemax/data/minilm.npz", "fusemax/data/README.md", "fusemax/py.typed"} <= set(names)
    assert "fusemax-0.1.0.dist-info/licenses/LICENSE" in names
    sources = {
        str(path.relative_to(ROOT / top)) for top in ("sw", "hw", "sim") for path in (ROOT / top).rglob("*") if path.is_file()
    }
    assert {source for source in sources if "__pycache__" not in source} <= set(names)


def test_metadata(metadata):
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"


def test_urls(metadata):
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL"))
    assert urls["Repository"] == REPOSITORY
    assert set(urls) == {"Repository", "Documentation", "Issues"}
    assert all(url.startswith(REPOSITORY) for url in urls.values())


def test_the_readme_works_outside_the_clone(metadata):
    """Every link and picture has its whole address, and what it names of the repository is there."""
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload()
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    assert len(targets) > 10
    bases = (f"{REPOSITORY}/blob/main/", "https://raw.githubusercontent.com/fusemax/fusemax/main/")
    for target in targets:
        assert target.startswith(("https://", "#")), target
        for base in bases:
            if target.startswith(base):
                assert (ROOT / target.removeprefix(base).partition("#")[0]).exists(), target
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text)
    assert pictures and all(picture.startswith(bases[1]) for picture in pictures)


def test_every_dependency_has_a_lower_bound(metadata):
    required = metadata.get_all("Requires-Dist")
    plain = {line.partition(">")[0].replace("-", "_") for line in required if "extra ==" not in line}
    assert plain == {"ml_dtypes", "numpy"}
    unbounded = [line for line in required if ">=" not in line and not line.startswith("fusemax[")]
    assert unbounded == []


def test_constraints_are_exact_and_cover_what_the_package_asks_for(metadata):
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 and "/" not in line for line in lines)
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    names = {re.split(r"[<>=!~;\[ ]", line)[0].lower().replace("_", "-") for line in metadata.get_all("Requires-Dist")}
    assert names - {"fusemax"} - pinned == set()


def test_import_is_quick_and_brings_no_extra(python):
    code = """if True:
        import sys, time
        first = time.process_time()
        import numpy
        start = time.process_time()
        import fusemax
        print((time.process_time() - start) / (start - first))
        extras = {"amaranth", "cocotb", "distributed", "matplotlib", "rich", "fusemax_hw", "fusemax_sim"}
        print(sorted(extras & set(sys.modules)))
    """
    runs = [python("-c", code).stdout.splitlines() for _ in range(3)]
    assert min(float(times_numpy) for times_numpy, _ in runs) < 4
    assert {modules for _, modules in runs} == {"[]"}


def test_extras_are_not_there(python):
    """Otherwise the tests around this one show nothing."""
    for name in ("amaranth", "cocotb", "distributed", "matplotlib", "rich"):
        assert "ModuleNotFoundError" in python("-c", f"import {name}", fails=True).stderr


def test_example_data(python):
    done = python("-c", "from fusemax.evaluation import minilm; data = minilm.load(); print(data.q.shape, data.q.dtype)")
    assert done.stdout == "(2, 12, 172, 32) bfloat16\n"


def test_attention_on_the_model(python):
    code = """if True:
        import numpy as np, fusemax
        from fusemax.evaluation import exact, minilm
        data = minilm.load()
        q, k, v = data.q[1, :2], data.k[1, :2], data.v[1, :2]
        with fusemax.open("model", config="small") as device:
            result = fusemax.attention(q, k, v, device=device, out_dtype="float32")
        print(exact.relative_error(result, exact.attention(q, k, v)))
    """
    assert 0 < float(python("-c", code).stdout) < 1e-4


def test_command_line(python):
    done = python("-m", "fusemax", "info", "--json")
    assert json.loads(done.stdout)["configurations"]["base"]["rows"] == 16
    assert "fusemax 0.1.0" in python("-m", "fusemax", "--version").stdout


def test_version(python, metadata):
    assert python("-c", "import fusemax; print(fusemax.__version__)").stdout.strip() == metadata["Version"]


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("verilog", "--config", "tiny"), "hw"),
        (("run", "--device", "rtl"), "sim"),
        (("bench", "--shape", "1x8x8x4x4"), "sim"),
        (("board", "build", "ulx3s_85f"), "bitstream"),
        (("paper", "-o", "pictures"), "cli"),
        (("explore", "--rows", "4"), "explore"),
    ],
)
def test_absent_extras_are_named(python, arguments, extra):
    done = python("-m", "fusemax", *arguments, fails=True)
    assert f"fusemax[{extra}]" in done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_compile_writes_the_program_without_matplotlib(python, tmp_path):
    done = python("-m", "fusemax", "compile", "--config", "tiny", "-o", str(tmp_path), "--json")
    assert json.loads(done.stdout)["initiation_interval"] == 130
    assert "fusemax[cli]" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["listing.txt", "program.bin", "program.json"]

    done = python(
        "-m", "fusemax", "run", "--device", "model", "--config", "tiny", "--heads", "1", "-o", str(tmp_path), "--json"
    )
    assert json.loads(done.stdout)["correct"]
    assert done.stderr == "without schedule.png: plotting needs matplotlib: pip install 'fusemax[cli]'\n"
