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

class Tensors(_message.Message):
    __slots__ = ("all", "positions")
    ALL_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    all: bool
    positions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, all: _Optional[bool] = ..., positions: _Optional[_Iterable[int]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("name", "message", "applied")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    name: str
    message: str
    applied: int
    def __init__(self, name: _Optional[str] = ..., message: _Optional[str] = ..., applied: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("target", "client", "catching_up", "shards", "tensors", "others")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    CATCHING_UP_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    target: Target
    client: str
    catching_up: bool
    shards: _containers.RepeatedScalarFieldContainer[int]
    tensors: Tensors
    others: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., client: _Optional[str] = ..., catching_up: _Optional[bool] = ..., shards: _Optional[_Iterable[int]] = ..., tensors: _Optional[_Union[Tensors, _Mapping]] = ..., others: _Optional[_Iterable[str]] = ...) -> None: ...

class PullReply(_message.Message):
    __slots__ = ("chunk", "parts")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    parts: _containers.RepeatedCompositeFieldContainer[PulledPart]
    def __init__(self, chunk: _Optional[bytes] = ..., parts: _Optional[_Iterable[_Union[PulledPart, _Mapping]]] = ...) -> None: ...

class PulledPart(_message.Message):
    __slots__ = ("shard", "error", "version", "incarnation", "applied")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    shard: int
    error: Error
    version: int
    incarnation: int
    applied: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, shard: _Optional[int] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., version: _Optional[int] = ..., incarnation: _Optional[int] = ..., applied: _Optional[_Iterable[int]] = ...) -> None: ...

class PushRequest(_message.Message):
    __slots__ = ("target", "client", "sequence", "chunk", "size_bytes", "rates", "parts", "tensors", "note", "pull")
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
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    PULL_FIELD_NUMBER: _ClassVar[int]
    target: Target
    client: str
    sequence: int
    chunk: bytes
    size_bytes: int
    rates: _containers.ScalarMap[str, float]
    parts: _containers.RepeatedCompositeFieldContainer[PushPart]
    tensors: Tensors
    note: str
    pull: bool
    def __init__(self, target: _Optional[_Union[Target, _Mapping]] = ..., client: _Optional[str] = ..., sequence: _Optional[int] = ..., chunk: _Optional[bytes] = ..., size_bytes: _Optional[int] = ..., rates: _Optional[_Mapping[str, float]] = ..., parts: _Optional[_Iterable[_Union[PushPart, _Mapping]]] = ..., tensors: _Optional[_Union[Tensors, _Mapping]] = ..., note: _Optional[str] = ..., pull: _Optional[bool] = ...) -> None: ...

class PushPart(_message.Message):
    __slots__ = ("shard", "seen_version", "seen_applied")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    SEEN_VERSION_FIELD_NUMBER: _ClassVar[int]
    SEEN_APPLIED_FIELD_NUMBER: _ClassVar[int]
    shard: int
    seen_version: int
    seen_applied: int
    def __init__(self, shard: _Optional[int] = ..., seen_version: _Optional[int] = ..., seen_applied: _Optional[int] = ...) -> None: ...

class PushReply(_message.Message):
    __slots__ = ("parts", "pulled", "chunk")
    PARTS_FIELD_NUMBER: _ClassVar[int]
    PULLED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedCompositeFieldContainer[PushedPart]
    pulled: _containers.RepeatedCompositeFieldContainer[PulledPart]
    chunk: bytes
    def __init__(self, parts: _Optional[_Iterable[_Union[PushedPart, _Mapping]]] = ..., pulled: _Optional[_Iterable[_Union[PulledPart, _Mapping]]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class PushedPart(_message.Message):
    __slots__ = ("shard", "error", "version", "incarnation", "staleness", "duplicate", "dropped")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STALENESS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    shard: int
    error: Error
    version: int
    incarnation: int
    staleness: int
    duplicate: bool
    dropped: bool
    def __init__(self, shard: _Optional[int] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., version: _Optional[int] = ..., incarnation: _Optional[int] = ..., staleness: _Optional[int] = ..., duplicate: _Optional[bool] = ..., dropped: _Optional[bool] = ...) -> None: ...

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
