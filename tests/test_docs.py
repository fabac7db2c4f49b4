import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
import yaml

import medgan
from medgan.app.cli import app
from medgan.app.pipeline import run_pipeline
from medgan.core.config import Config
from tests.kit.data_sets import TINY, write_folder

ROOT = Path(medgan.__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCE = "\n".join(p.read_text() for p in sorted((ROOT / "medgan").rglob("*.py")))


def shell_lines():
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                command = line.split("#")[0].strip()
                if command:
                    yield pytest.param(command, id=f"{page.name}: {command[:40]}")


def torchrun_options():
    from torch.distributed.run import get_args_parser

    return [action.option_strings for action in get_args_parser()._actions]


@pytest.mark.parametrize("command", list(shell_lines()))
def test_every_command_in_the_docs_exists(command):
    words = command.removeprefix(".venv/bin/").split()
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    elif words[0] == "medgan":
        command = typer.main.get_command(app)
        assert words[1] in command.commands
        nested = getattr(command.commands[words[1]], "commands", {})
        assert not nested or words[2] in nested
    elif words[0] == "torchrun":
        medgan_words = command.split(" -m medgan ")[1].split()
        assert medgan_words[0] in typer.main.get_command(app).commands
        options = set(re.findall(r"--[a-z-]+", command.split(" -m medgan ")[0]))
        assert options <= {action for one in torchrun_options() for action in one}
    elif words[0] == "sbatch":
        script = next(word for word in words if word.endswith(".sbatch"))
        assert (ROOT / script).is_file()
        given = words[words.index(script) + 1 :]
        if script.endswith("shards.sbatch"):
            assert given[0].isdecimal()
            assert {given[1], "merge"} <= typer.main.get_command(app).commands.keys()
    elif words[0] == "apptainer":
        assert words[1] in ("build", "exec")
        assert all((ROOT / word).is_file() for word in words if word.endswith(".def"))
    elif words[0].startswith("/shared/medgan/venv/bin/"):  # an environment on a cluster
        assert words[0].rpartition("/")[2] in ("pip", "medgan")
    elif words[:3] == ["python3.11", "-m", "venv"]:
        pass
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    else:
        assert words[0] in ("pre-commit", "git", "cd", "cp", "docker", "export")


def test_the_page_of_settings_is_what_make_docs_writes():
    code = "import runpy; print(runpy.run_path('docs/make_reference.py')['render'](), end='')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == (ROOT / "docs" / "reference" / "configuration.md").read_text()


def test_every_error_code_is_documented_and_every_documented_one_exists():
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    used = set(re.findall(r"\bE_[A-Z_]+\b", SOURCE))
    assert used == set(re.findall(r"\bE_[A-Z_]+\b", page))


def test_every_code_of_dicom_is_in_its_how_to_with_what_to_do():
    page = (ROOT / "docs" / "how-to" / "dicom.md").read_text()
    raised = set()
    for path in (ROOT / "medgan" / "data" / "dicom").glob("*.py"):
        if path.name not in ("objects.py", "synthetic.py"):  # which write
            raised |= set(re.findall(r'"(E_[A-Z_]+)"', path.read_text()))
    source = (ROOT / "tests" / "data" / "dicom" / "test_refusals.py").read_text()
    tested = set(re.findall(r'"(E_[A-Z_]+)"', source))
    listed = set(re.findall(r"`(E_[A-Z_]+)`", page))
    assert len(tested) > 12
    assert (raised | tested) - listed - {"E_LAYOUT", "E_DISK"} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_pictures_in_the_docs_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_python_of_the_readme_is_valid():
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        compile(block, "README.md", "exec")


@pytest.mark.slow
def test_the_figure_of_conditions_is_drawn_and_its_figures_are_printed(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    source = write_folder(tmp_path / "scans", 14, labels=False)
    names = sorted(path.name for path in source.glob("*.nii.gz"))
    rows = [f"{name},{30 + 3 * n if n else 'n/a'},{'FM'[n % 2]}" for n, name in enumerate(names)]
    (source / "cohort.csv").write_text("\n".join(["image,age,sex", *rows]))
    pipeline = tmp_path / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "train"], "config": TINY}))
    conditions = "data.conditions={age: continuous, sex: categorical}"
    settings = [f"data.source={source / 'cohort.csv'}", f"out={tmp_path / 'run'}", conditions]
    run_pipeline(str(pipeline), settings)
    script = runpy.run_path(str(ROOT / "docs" / "scripts" / "condition_plot.py"))
    script["main"](tmp_path / "run", tmp_path / "age.png")
    assert (tmp_path / "age.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "held-out scans" in printed
    assert "synthetic, F" in printed


def test_ventricles_and_sex_of_aligned_brains_are_measured():
    script = runpy.run_path(str(ROOT / "docs" / "scripts" / "condition_plot.py"))
    brains = torch.ones(2, 1, 20, 20, 20)
    brains[1, 0, 8:12, 8:12, 8:12] = -0.5  # 64 of 7 x 9 x 5 voxels in the middle
    brains[:, 0, :2] = -1  # air
    assert script["ventricle_share"](brains).tolist() == pytest.approx([0, 64 / 315])
    torch.manual_seed(0)
    sexes = ["F", "M"] * 20
    scans = torch.randn(40, 1, 8, 8, 8) + torch.tensor([0.0, 1.0] * 20)[:, None, None, None, None]
    logits = script["by_a_classifier"](scans[:30], sexes[:30], scans[30:])
    assert (logits[1::2].min() > logits[::2].max()).item()


def test_no_mark_of_a_merge_is_left_in_a_page():
    marked = [page.name for page in PAGES if re.search("^(<{7} |>{7} )", page.read_text(), re.M)]
    assert not marked


def settings_in(text):
    """Settings named in inline code and in shell or YAML blocks, as section.key."""
    sections = "|".join(Config.model_fields)
    code = re.findall(r"```(?:bash|yaml)\n(.*?)```", text, re.DOTALL)
    code += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    pattern = rf"(?<![\w./-])({sections})\.([a-z_0-9]+)(?![\w(/])"
    files = ("py", "yaml", "json", "csv", "html", "png")
    return {found for part in code for found in re.findall(pattern, part) if found[1] not in files}


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "CHANGELOG.md"],  # names settings of former versions
    ids=lambda p: p.name,
)
def test_settings_named_in_the_docs_exist(page):
    for section, key in settings_in(page.read_text()):
        fields = Config.model_fields[section].annotation.model_fields
        assert key in fields, f"{section}.{key}"


def test_a_setting_that_does_not_exist_is_found_in_inline_code_and_in_commands():
    text = "`train.no_such` and\n```bash\nmedgan train x --set data.gone=1  # train.volumes\n```\n"
    assert settings_in(text) == {("train", "no_such"), ("data", "gone"), ("train", "volumes")}
