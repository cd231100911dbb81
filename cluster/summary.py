"""What a run has to say when it ends, as text."""

from child_trainer.drawing import draw
from cluster.progress import duration, failures, number
from cluster.run_folder import RunFolder
from cluster.status import FIRST, Status


def best_lines(status: Status) -> list[str]:
    """The best child, drawn, with its figures; or that there is none."""
    best = status.best
    if best is None:
        return ["No child has finished yet."]
    cost = [
        f"{best.parameters:,} parameters" if best.parameters is not None else "",
        f"{best.flops:,} FLOPs" if best.flops is not None else "",
        f"trained in {best.seconds:.1f} s",
    ]
    return [
        f"Best child: {best.child_id} (architecture {best.architecture.id})",
        "",
        draw(best.architecture),
        "",
        f"validation accuracy {best.metric:.4f}, reward {best.reward:.4f}",
        ", ".join(text for text in cost if text),
    ]


def summary(status: Status, folder: RunFolder) -> str:
    """The whole closing word: the best child, what the search gained, how it ended, where everything is."""
    lines = best_lines(status)
    if status.best is not None and status.first_metric is not None:
        gain = status.best.metric - status.first_metric
        count = min(FIRST, status.finished)
        lines.append(f"{gain:+.4f} against the mean of the first {count} children, {number(status.first_metric)}")
    ended = {"finished": "Finished", "stopped": "Stopped", "failed": "Failed"}.get(status.state, status.state)
    lines += [
        "",
        f"{ended} after {duration(status.seconds)}: {status.finished} children finished, {failures(status)},"
        f" {status.updates} updates" + (f" ({status.message})" if status.message else ""),
        f"Everything is in {folder.path}",
    ]
    if status.state in ("stopped", "failed"):
        lines.append(f"Go on with: nascluster resume {status.name}")
    return "\n".join(lines)
