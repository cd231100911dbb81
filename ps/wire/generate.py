"""A command that generates the Python code of `ps.proto`, or checks that the generated files are current.

    python -m ps.wire.generate            # write ps_pb2.py, ps_pb2.pyi and ps_pb2_grpc.py
    python -m ps.wire.generate --check    # exit 1 if they differ from what would be generated

It needs grpcio-tools, which is a development dependency; another version of it may generate other text.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

WIRE = Path(__file__).resolve().parent
"""The folder of the proto and of the generated files."""

GENERATED = ("ps_pb2.py", "ps_pb2.pyi", "ps_pb2_grpc.py")


def generate() -> dict[str, str]:
    """Return file name -> text generated from the proto.

    Raises:
        RuntimeError: the compiler is missing or rejects the proto; the message includes the compiler's.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Compiled from the repository's root, so that the generated import reads `from ps.wire import ps_pb2`.
        outputs = [f"--{kind}={folder}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", *outputs, "ps/wire/ps.proto"]
        result = subprocess.run(command, cwd=WIRE.parents[1], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"cannot compile {WIRE / 'ps.proto'}: {result.stderr.strip()}")
        return {name: (Path(folder) / "ps" / "wire" / name).read_text() for name in GENERATED}


def stale() -> list[str]:
    """Return the names of the generated files that are missing or outdated."""
    fresh = generate()
    return [name for name in GENERATED if not (WIRE / name).exists() or (WIRE / name).read_text() != fresh[name]]


def main() -> int:
    """Run the command line, and return its exit status."""
    parser = argparse.ArgumentParser(description="Regenerate the Python of ps/wire/ps.proto.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the checked-in code is stale")
    if parser.parse_args().check:
        if outdated := stale():
            print(f"ps/wire/ps.proto has changed since {', '.join(outdated)}: run `python -m ps.wire.generate`")
            return 1
        return 0
    for name, text in generate().items():
        (WIRE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
