from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Target(_message.Message):
    __slots__ = ("run", "fingerprint", "shard")
    RUN_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    run: str
    fingerprint: str
    shard: int
    def __init__(self, run: _Optional[str] = ..., fingerprint: _Optional[str] = ..., shard: _Optional[int] = ...) -> None: ...

class InitializeRequest(_message.Message):
    __slots__ = ("target", "chunk", "size_bytes")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    target: Target
    chunk: bytes
    size_bytes: int
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., chunk: _Optional[bytes] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class InitializeReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("target", "names", "client", "catching_up")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    CATCHING_UP_FIELD_NUMBER: _ClassVar[int]
    target: Target
    names: _containers.RepeatedScalarFieldContainer[str]
    client: str
    catching_up: bool
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., names: _Optional[_Iterable[str]] = ..., client: _Optional[str] = ..., catching_up: _Optional[bool] = ...) -> None: ...

class PullReply(_message.Message):
    __slots__ = ("version", "incarnation", "chunk", "applied")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    version: int
    incarnation: int
    chunk: bytes
    applied: int
    def __init__(self, version: _Optional[int] = ..., incarnation: _Optional[int] = ..., chunk: _Optional[bytes] = ..., applied: _Optional[int] = ...) -> None: ...

class PushRequest(_message.Message):
    __slots__ = ("target", "client", "sequence", "seen_version", "chunk", "size_bytes", "seen_applied", "rates")
    class RatesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SEEN_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEEN_APPLIED_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    target: Target
    client: str
    sequence: int
    seen_version: int
    chunk: bytes
    size_bytes: int
    seen_applied: int
    rates: _containers.ScalarMap[str, float]
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., client: _Optional[str] = ..., sequence: _Optional[int] = ..., seen_version: _Optional[int] = ..., chunk: _Optional[bytes] = ..., size_bytes: _Optional[int] = ..., seen_applied: _Optional[int] = ..., rates: _Optional[_Mapping[str, float]] = ...) -> None: ...

class PushReply(_message.Message):
    __slots__ = ("version", "incarnation", "staleness", "duplicate", "dropped")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STALENESS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    version: int
    incarnation: int
    staleness: int
    duplicate: bool
    dropped: bool
    def __init__(self, version: _Optional[int] = ..., incarnation: _Optional[int] = ..., staleness: _Optional[int] = ..., duplicate: _Optional[bool] = ..., dropped: _Optional[bool] = ...) -> None: ...

class LeaveRequest(_message.Message):
    __slots__ = ("target", "client")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    target: Target
    client: str
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., client: _Optional[str] = ...) -> None: ...

class LeaveReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class KeepRequest(_message.Message):
    __slots__ = ("target", "clients")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    target: Target
    clients: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., clients: _Optional[_Iterable[str]] = ...) -> None: ...

class KeepReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: Target
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ...) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("index", "version", "incarnation", "initialized", "pushes", "duplicates", "rejected", "elements", "clients", "writes", "dropped", "snapshot_age_s", "snapshot_write_s", "snapshot_bytes")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    INITIALIZED_FIELD_NUMBER: _ClassVar[int]
    PUSHES_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_AGE_S_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_WRITE_S_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_BYTES_FIELD_NUMBER: _ClassVar[int]
    index: int
    version: int
    incarnation: int
    initialized: bool
    pushes: int
    duplicates: int
    rejected: int
    elements: int
    clients: int
    writes: int
    dropped: int
    snapshot_age_s: float
    snapshot_write_s: float
    snapshot_bytes: int
    def __init__(self, index: _Optional[int] = ..., version: _Optional[int] = ..., incarnation: _Optional[int] = ..., initialized: _Optional[bool] = ..., pushes: _Optional[int] = ..., duplicates: _Optional[int] = ..., rejected: _Optional[int] = ..., elements: _Optional[int] = ..., clients: _Optional[int] = ..., writes: _Optional[int] = ..., dropped: _Optional[int] = ..., snapshot_age_s: _Optional[float] = ..., snapshot_write_s: _Optional[float] = ..., snapshot_bytes: _Optional[int] = ...) -> None: ...
