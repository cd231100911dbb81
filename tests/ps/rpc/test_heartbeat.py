import threading
import time

from ps.rpc.heartbeat import Heartbeat


def test_a_heartbeat_names_the_active_members():
    sent: list[list[str]] = []
    event = threading.Event()

    def send(clients: list[str]) -> None:
        sent.append(clients)
        event.set()

    def next_sent() -> list[str]:
        event.clear()
        assert event.wait(5)
        return sent[-1]

    heartbeat = Heartbeat(("a", "b"), 0.01, send)
    heartbeat.add("stranger")
    assert heartbeat._thread is None, "there is nothing to send yet"
    heartbeat.add("b")
    heartbeat.add("a")
    assert next_sent()
    assert next_sent() == ["a", "b"]
    heartbeat.remove("b")
    assert next_sent()
    assert next_sent() == ["a"]
    heartbeat.close()
    calls = len(sent)
    time.sleep(0.05)
    assert len(sent) == calls
    heartbeat.add("a")  # as by a call that was in progress when the store was closed
