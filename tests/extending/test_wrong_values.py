"""Values of a user's own parts that no run can use: each is refused by name, before the run or when it comes up."""

import sqlite3
from pathlib import Path

import pytest

from tests.command_line import nascluster
from tests.extending.files import FILES, write_files

SEARCHER, TASK = FILES["my_search.py"], FILES["my_task.py"]
LATE = ["launch", "my_recipe.py:stripes", "--local", "--name", "late", "--max-children", 6, "--epochs", 1]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with the files, which is the current one."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    own = tmp_path / "own"
    own.mkdir()
    write_files(own)
    monkeypatch.chdir(own)
    return own


def ledger(tmp_path: Path, name: str = "late") -> sqlite3.Connection:
    return sqlite3.connect(tmp_path / "home" / "nascluster_runs" / name / "ledger.sqlite")


def displays(capfd: pytest.CaptureFixture[str], name: str = "late") -> str:
    """Return what the displays of a run print; each of them must work."""
    capfd.readouterr()
    for words in (["status", name], ["best", name], ["best", name, "--json"], ["children", name], ["list"]):
        assert nascluster(*words) == 0, words
    assert nascluster("report", name, "--output", "page.html") == 0
    shown = capfd.readouterr()
    assert "Traceback" not in shown.err
    return shown.out


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("float('nan')", "reward part.py:late must return a finite number, got nan"),
        ("float('-inf')", "reward part.py:late must return a finite number, got -inf"),
        ("10**400", "reward part.py:late must return a finite number, got 1000"),
        ("10**5000", "reward part.py:late must return a finite number, got "),
        ("'good'", "reward part.py:late must return a finite number, got 'good'"),
        ("1 / 0", "part.py:late: `late` failed: ZeroDivisionError: division by zero"),
        ("exit(3)", "part.py:late: `late` failed: SystemExit: 3"),
    ],
)
def test_a_wrong_reward_fails_the_run_by_name_at_its_child(
    value: str, message: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    late = f"SEEN = []\ndef late(outcome):\n    SEEN.append(1)\n    return {value} if len(SEEN) > 3 else 10**20\n"
    (folder / "part.py").write_text(late)
    assert nascluster(*LATE, "--reward", "part.py:late") == 1
    assert f"({message}" in capfd.readouterr().out
    with ledger(tmp_path) as db:
        ended = db.execute("SELECT reward FROM children WHERE completion IS NOT NULL").fetchall()
    assert ended == [(1e20,), (1e20,)]
    displays(capfd)


def test_a_wrong_reward_is_refused_before_the_run(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "part.py").write_text("def wrong(outcome):\n    return 10**400\n")
    assert nascluster(*LATE, "--reward", "part.py:wrong") == 2
    assert "reward part.py:wrong must return a finite number" in capfd.readouterr().err


def test_displays_of_a_ledger_with_wrong_rewards_and_figures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert nascluster(*LATE) == 0
    with ledger(tmp_path) as db:
        db.execute("UPDATE children SET reward = NULL")
        db.execute("UPDATE totals SET best_reward = NULL, reward = 0, rewarded = 0")
    assert "reward -" in displays(capfd)
    for figures in ('{"best": NaN}', '{"best": "high"}', '{"best": Infinity}'):
        with ledger(tmp_path) as db:
            db.execute("UPDATE batches SET figures = ?", (figures,))
            db.execute("UPDATE totals SET figures = ?", (figures,))
        displays(capfd)
    assert nascluster("resume", "late", "--max-children", 8) == 0


PROPOSAL = "Proposal(tokens=tokens, architecture=self.space.decode(tokens))"


def answering(proposal: str) -> str:
    assert SEARCHER.count(PROPOSAL) == 1
    return SEARCHER.replace(PROPOSAL, proposal)


def learning(update: str, *, parameters: str = "()") -> str:
    head = "import math\nimport torch\nimport numpy\nfrom nascluster import ParameterGroup\n"
    text = SEARCHER.replace("return ()", f"return {parameters}").replace(
        "import Sequence\n", f"import Sequence\n{head}"
    )
    return text.replace(
        'Update(gradients={}, figures={"best": max(child.reward or 0.0 for child in children)})', update
    )


def group(values: str, options: str = "{'lr': 0.1}") -> str:
    return f"(ParameterGroup(name='g', values={values}, optimizer='sgd', options={options}),)"


W = group("{'w': torch.zeros(3)}")
WRONG = [
    (answering(f"{PROPOSAL[:-1]}, same_as=77)"), "`same_as` of a Proposal must be the id of an ended child"),
    (answering(f"{PROPOSAL[:-1]}, log_prob=float('nan'))"), "`log_prob` of a Proposal must be a finite number or None"),
    (answering(f"{PROPOSAL[:-1]}, notes={{'parent': 9999}})"), "'parent' of a Proposal must be the id of a child"),
    (answering(f"{PROPOSAL[:-1]}, notes={{'predicted': 'x'}})"), "'predicted' of a Proposal must be a finite number"),
    (answering(f"{PROPOSAL[:-1]}, notes={{'change': 3}})"), "the note 'change' of a Proposal must be a text, got 3"),
    (answering(PROPOSAL.replace("=tokens,", "=list(tokens),")), "`tokens` of a Proposal must be a tuple of int, got ["),
    (answering(PROPOSAL.replace("=tokens,", "=tuple(map(str, tokens)),")), "of type str"),
    (answering(PROPOSAL.replace("=tokens,", "=tuple(map(bool, tokens)),")), "of type bool"),
    (
        answering(PROPOSAL.replace("=tokens,", "=tuple(__import__('numpy').array(tokens)),")),
        "must be a tuple of int, got one with np.int64(",
    ),
    (answering(PROPOSAL.replace("=tokens,", "=(99,) * len(tokens),")), "the space must decode the `tokens`"),
    (
        answering(PROPOSAL.replace("=tokens,", "=(1 - min(tokens[0], 1), *tokens[1:]),")),
        "the space must decode the `tokens` of a Proposal to its `architecture`",
    ),
    (learning("Update(figures={'best': math.nan})"), "must be a finite number, got nan; where it has no value, as the"),
    (learning("Update(figures={'best': 'x'})"), "the figure 'best' that `learn` returns must be a finite number"),
    (learning("Update(figures=[1])"), "the `figures` of an Update must be a mapping by name, got [1]"),
    (learning("Update(gradients={'w': [0.0] * 3})", parameters=W), "must be a float32 tensor, got a list"),
    (learning("Update(gradients={'w': None})", parameters=W), "must be a float32 tensor, got None"),
    (learning("Update(gradients={'w': numpy.zeros(3)})", parameters=W), "must be a float32 tensor, got a ndarray"),
    (learning("Update(gradients={'w': torch.zeros(3).double()})", parameters=W), "float32 tensor, got one of float64"),
    (learning("Update(gradients={'w': torch.zeros(4)})", parameters=W), "must be of the shape (3,), got (4,)"),
    (learning("Update(gradients={'w': torch.ones(3) / 0})", parameters=W), "must be finite, and has NaN or infinity"),
    (learning("Update()", parameters="None"), "`parameters` must return a tuple of ParameterGroup, got None"),
    (learning("Update()", parameters="{'w': 1}"), "`parameters` must return a tuple of ParameterGroup, got {'w': 1}"),
    (
        learning("Update()", parameters="(1,)"),
        "`parameters` must return a tuple of ParameterGroup; one of it is, got 1",
    ),
    (
        learning("Update()", parameters=group("{'w': [1.0]}")),
        "'w' of `parameters` must be a float32 tensor, got a list",
    ),
    (learning("Update()", parameters=group("{'w': torch.zeros(3).double()}")), "a float32 tensor, got one of float64"),
    (learning("Update()", parameters=group("{'w': torch.ones(3) / 0}")), "must be finite, and has NaN or infinity"),
    (learning("Update()", parameters=group("[1]")), "the `values` of a ParameterGroup must be tensors by name"),
    (learning("Update()", parameters=group("{'w': torch.zeros(3)}", "None")), "`options` of a ParameterGroup"),
    (
        SEARCHER.replace('batch"),)', 'batch"), Figure(name="best", words="x"))'),
        "`FIGURES` of part.py:HillClimber must have each name once, got 'best' twice",
    ),
    (
        f"{SEARCHER}\n    def stop_reason(self, view): return None\n",
        "`stop_reason` must return a text, empty as long as",
    ),
    (f"{SEARCHER}\n    def stop_reason(self, view): 1 / 0\n", "`stop_reason` failed: ZeroDivisionError: division by"),
    (
        f"{SEARCHER}\n    exclusive = True\n\n    def keeps(self, view): return [1]\n",
        "`keeps` must return a frozenset of ids of children, got [1]",
    ),
    (learning("exit(3)"), "part.py:HillClimber: `learn` failed: SystemExit: 3"),
    (answering("exit('bye')"), "part.py:HillClimber: `ask` failed: SystemExit: bye"),
    (
        SEARCHER.replace(
            '            raise ValueError(f"`restart`', '            raise ValueError(f"`restart`'
        ).replace(
            "        if not 0 <= self.restart", "        raise RuntimeError('boom')\n        if not 0 <= self.restart"
        ),
        "the options of part.py:HillClimber cannot be made: RuntimeError: boom",
    ),
    (
        SEARCHER.replace("        if not 0 <= self.restart", "        exit(2)\n        if not 0 <= self.restart"),
        "the options of part.py:HillClimber cannot be made: SystemExit: 2",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_a_searcher_answers_wrongly_is_said_in_one_sentence_before_the_run(
    text: str, message: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "part.py").write_text(text)
    assert nascluster("launch", "synthetic", "--local", "--searcher", "part.py:HillClimber") == 2
    error = capfd.readouterr().err
    assert message in error
    assert "part.py:HillClimber" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "home").exists()


ASK, LEARN = "        best = max(rewarded", "        return Update(gradients={}"
LATER = [
    (ASK, "1 / 0", "part.py:HillClimber: `ask` failed: ZeroDivisionError: division by zero"),
    (ASK, "exit(3)", "part.py:HillClimber: `ask` failed: SystemExit: 3"),
    (ASK, "return ['conv']", "part.py:HillClimber: `ask` must return a list of Proposal, got a list with a str"),
    (LEARN, "1 / 0", "part.py:HillClimber: `learn` failed: ZeroDivisionError: division by zero"),
    (LEARN, "exit(3)", "part.py:HillClimber: `learn` failed: SystemExit: 3"),
    (LEARN, "return Update(figures={'best': float('nan')})", "the figure 'best' that `learn` returns must be a finite"),
    (LEARN, "return Update(figures={'best': 'x'})", "must be a finite number, got 'x'"),
]


@pytest.mark.parametrize(("where", "wrong", "message"), LATER, ids=[f"{wrong} {text}" for _, wrong, text in LATER])
def test_what_a_searcher_does_wrongly_in_a_run_fails_it_by_name(
    where: str, wrong: str, message: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = SEARCHER.replace(where, f"        if view.completed > 5:\n            {wrong}\n{where}")
    (folder / "part.py").write_text(text)
    words = ["launch", "synthetic", "--local", "--searcher", "part.py:HillClimber", "--max-children", 12]
    assert nascluster(*words, "--name", "late") == 1
    failed = capfd.readouterr()
    assert message in failed.out
    assert "Traceback" not in failed.err
    error = (tmp_path / "home" / "nascluster_runs" / "late" / "error.txt").read_text()
    assert "part.py" in error
    displays(capfd)


@pytest.mark.parametrize("searcher", ["random", "my_search.py:HillClimber"])
def test_an_error_of_a_space_in_a_run_names_the_space(
    searcher: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    space = FILES["my_space.py"]
    decode = "        check_tokens(self.decisions_of(len(tokens)), tokens)\n"
    late = "        SEEN.append(1)\n        if len(SEEN) > 60:\n            raise KeyError('late')\n"
    (folder / "part.py").write_text(space.replace(decode, decode + late) + "\nSEEN = []\n")
    words = ["launch", "digits", "--local", "--space", "part.py:TwoTower", "--searcher", searcher, "--epochs", 1]
    assert nascluster(*words, "--widths", 1, 2, "--train-fraction", 0.1, "--max-children", 64) == 1
    assert "part.py:TwoTower: `decode` failed: KeyError: 'late'" in capfd.readouterr().out


OPTIONAL = [
    ("def genotypes(self, tokens): raise KeyError('x')", "`genotypes` failed: KeyError: 'x'"),
    ("def genotypes(self, tokens): return 5", "`genotypes` must return a mapping of name to text, got 5"),
    ("def motifs(self, tokens): exit(3)", "`motifs` failed: SystemExit: 3"),
    ("def motifs(self, tokens): return {'a': 1}", "`motifs` must return a mapping of name to Architecture"),
    ("def first(self, completed, rng): return 'abc'", "`first` must return a tuple of int, got 'abc'"),
    ("def first(self, completed, rng): return (99, 0, 0)", "`first` failed: InvalidTokens"),
    ("def mutate(self, tokens, rng): return None", "`mutate` must return a tuple of int, got None"),
    ("def state(self, tokens): return []", "`state` failed: TypeError: unhashable type: 'list'"),
    ("place_name = 3", "`place_name` must be a text, got 3"),
]


@pytest.mark.parametrize(("method", "message"), OPTIONAL, ids=[message for _, message in OPTIONAL])
def test_an_optional_method_of_a_space_that_fails_is_refused_before_the_run(
    method: str, message: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "part.py").write_text(f"{FILES['my_space.py']}\n    {method}\n")
    assert nascluster("launch", "digits", "--local", "--space", "part.py:TwoTower") == 2
    error = capfd.readouterr().err
    assert f"part.py:TwoTower: {message}" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "home").exists()


def test_displays_leave_out_what_an_optional_method_of_a_space_fails_to_give(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    method = (
        "    def genotypes(self, tokens):\n        if len(SEEN) > 1: raise KeyError('late')\n        SEEN.append(1)\n"
    )
    late = f"{method}        SEEN.append(1)\n        return {{}}\n\nSEEN = []\n"
    (folder / "part.py").write_text(f"{FILES['my_space.py']}\n{late}")
    words = ["launch", "my_recipe.py:stripes", "--space", "part.py:TwoTower", "--local", "--max-children", 2]
    assert nascluster(*words, "--epochs", 1, "--name", "late") == 0
    missing = "Not shown: part.py:TwoTower: `genotypes` failed: KeyError: 'late'"
    assert missing in capfd.readouterr().out
    assert displays(capfd).count(missing) == 3
    assert "`genotypes` failed: KeyError" in (folder / "page.html").read_text()


def test_options_that_refuse_a_given_value_with_another_error(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "part.py").write_text(SEARCHER.replace("raise ValueError(f", "raise RuntimeError(f"))
    assert nascluster("launch", "synthetic", "--local", "--searcher", "part.py:HillClimber", "--restart", 3) == 2
    assert "the options of part.py:HillClimber cannot be made: RuntimeError: `restart`" in capfd.readouterr().err


FORWARD = "            return x * gate.sigmoid()"
PARAMETER = (
    "        def __init__(self):\n            super().__init__()\n            self.w = nn.Parameter(gate_weight())\n\n"
)
OPERATIONS = [
    (
        "return Gate()",
        "return None",
        "its `build` failed: TypeError: `build` must return a torch.nn.Module, got NoneType",
    ),
    ("return Gate()", "raise RuntimeError('boom')", "its `build` failed: RuntimeError: boom"),
    ("return Gate()", "exit(3)", "its `build` failed: SystemExit: 3"),
    (
        "return Gate()",
        "raise ValueError('boom')",
        "node 'gate' (gate) cannot take inputs of shape (16, 8, 8), (16, 8, 8): boom",
    ),
    (FORWARD, "            raise KeyError('boom')", "its `forward` failed: KeyError: 'boom'"),
    (
        FORWARD,
        "            return None",
        "its `forward` failed: TypeError: `forward` must return a tensor, got NoneType",
    ),
    (
        "    class Gate(nn.Module):\n",
        "    import torch\n\n    def gate_weight():\n        return torch.ones(1)\n\n"
        f"    class Gate(nn.Module):\n{PARAMETER}",
        "Gate has parameters and no `reset_parameters` that sets them",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "message"), OPERATIONS, ids=[message for *_, message in OPERATIONS])
def test_an_operation_that_cannot_be_built_is_refused_before_the_run(
    right: str, wrong: str, message: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert FILES["my_space.py"].count(right) == 1
    (folder / "part.py").write_text(FILES["my_space.py"].replace(right, wrong))
    words = ["launch", "digits", "--local", "--space", "part.py:TwoTower", "--widths", 8, 16]
    assert nascluster(*words) == 2
    error = capfd.readouterr().err
    assert "the operation 'gate' of part.py can be built in none of 50 random networks: " in error
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "home").exists()


def test_an_operation_that_some_networks_can_have_is_enough(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = FILES["my_space.py"].replace(
        "return Gate()", "if site.shapes[0][0] == 8: raise ValueError('8')\n    return Gate()"
    )
    (folder / "part.py").write_text(text)
    words = ["launch", "my_recipe.py:stripes", "--space", "part.py:TwoTower", "--local", "--max-children", 2]
    assert nascluster(*words, "--epochs", 1) == 0


LOAD, CHECK = "    generator = torch.Generator()", '    """Do nothing: the images are made'
TASKS = [
    (CHECK, "1 / 0", "`check` failed: ZeroDivisionError: division by zero"),
    (CHECK, "exit(3)", "`check` failed: SystemExit: 3"),
    (LOAD, "1 / 0", "`load` failed: ZeroDivisionError: division by zero"),
    (LOAD, "exit(3)", "`load` failed: SystemExit: 3"),
    (LOAD, "return None", "`load` must return a task, such as an ImageTask, got NoneType"),
]


@pytest.mark.parametrize(("where", "wrong", "message"), TASKS, ids=[message for _, _, message in TASKS])
def test_an_error_of_a_task_names_it(
    where: str, wrong: str, message: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "part.py").write_text(TASK.replace(where, f"    {wrong}\n{where}"))
    assert nascluster(*LATE, "--task", "part.py:STRIPES") == 2
    shown = capfd.readouterr()
    assert f"part.py:STRIPES: {message}" in shown.out + shown.err
    assert "Traceback" not in shown.err
