"""What deploy/Dockerfile says."""

from tests.deploy.files import DEPLOY

DOCKERFILE = DEPLOY / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, comments and line breaks apart."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in joined)]


def copies() -> list[tuple[list[str], str]]:
    """What is copied from the checkout, and where to."""
    split = [rest.split() for word, rest in instructions() if word == "COPY"]
    return [(words[:-1], words[-1]) for words in split]


def sources() -> set[str]:
    """What the package is installed from."""
    return {source for names, target in copies() for source in names if not target.startswith("/")}
