"""Blobs and matches in a database: SQLite by default, or any other of SQLAlchemy; Parquet; MagellanMapper's own.

Blobs are identified by experiment and ``blob_id``, matches by experiment and their two blobs. Existing rows are
updated, never replaced (so that references to them stay valid), and every call is one transaction.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from intake_img.accessor.coloc import checks
from intake_img.accessor.coloc.matching import Matches, matches_of
from intake_img.errors import FormatError
from intake_img.model.packages import imported
from intake_img.storage.files import File
from intake_img.storage.staging import replacing

__all__ = ["from_magmap", "insert", "read_parquet", "select", "write_parquet"]

_BATCH = 1000
_BLOB = ("blob_id", "channel", "t", "z", "y", "x", "radius", "confirmed", "truth")
_MATCH = ("blob1_id", "blob2_id", "channel1", "channel2", "t", "distance", "distance_scaled")


def _sqlalchemy() -> Any:
    return imported("sqlalchemy", "sql", "keeping blobs and matches in a database")


def _tables() -> tuple[Any, Any, Any, Any]:
    sa = _sqlalchemy()
    meta = sa.MetaData()
    experiment = sa.Table(
        "experiments",
        meta,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(255), nullable=False, unique=True),
        sa.Column("channels", sa.Text, nullable=False, default="[]"),
    )
    own = [sa.ForeignKey("experiments.id", ondelete="CASCADE")]
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    blob = sa.Table(
        "blobs",
        meta,
        sa.Column("id", number, primary_key=True),
        sa.Column("experiment_id", sa.Integer, *own, nullable=False),
        sa.Column("blob_id", number, nullable=False),
        sa.Column("channel", sa.String(255), nullable=False),
        *(sa.Column(c, sa.Float(53)) for c in ("t", "z", "y", "x", "radius")),
        *(sa.Column(c, sa.Integer) for c in ("confirmed", "truth")),
        sa.UniqueConstraint("experiment_id", "blob_id"),
        sa.Index("blobs_by_place", "experiment_id", "x", "y", "z"),
    )
    match = sa.Table(
        "matches",
        meta,
        sa.Column("id", number, primary_key=True),
        sa.Column("experiment_id", sa.Integer, sa.ForeignKey("experiments.id", ondelete="CASCADE"), nullable=False),
        sa.Column("blob1_id", number, nullable=False),
        sa.Column("blob2_id", number, nullable=False),
        sa.Column("channel1", sa.String(255), nullable=False),
        sa.Column("channel2", sa.String(255), nullable=False),
        *(sa.Column(c, sa.Float(53)) for c in ("t", "distance", "distance_scaled")),
        sa.UniqueConstraint("experiment_id", "blob1_id", "blob2_id"),
        *(
            sa.ForeignKeyConstraint(
                ["experiment_id", f"blob{k}_id"], ["blobs.experiment_id", "blobs.blob_id"], ondelete="CASCADE"
            )
            for k in (1, 2)
        ),
        sa.Index("matches_by_channels", "experiment_id", "channel1", "channel2"),
        sa.Index("matches_by_second", "experiment_id", "blob2_id"),
    )
    return meta, experiment, blob, match


def _engine(target: Any) -> Any:
    sa = _sqlalchemy()
    if isinstance(target, sa.engine.Engine):
        return target
    if not isinstance(target, (str, os.PathLike)):
        raise TypeError(f"target={target!r}: expected a path, a URL of SQLAlchemy or an Engine")
    text = str(os.fspath(target))
    if "://" not in text and (os.path.isdir(text) or not os.path.isdir(os.path.dirname(text) or ".")):
        raise FileNotFoundError(f"target={text!r}: expected a file in a folder that exists")
    try:
        engine = sa.create_engine(text if "://" in text else f"sqlite:///{text}", poolclass=sa.pool.NullPool)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as exc:
        raise ValueError(f"target={text!r}: SQLAlchemy knows no such database ({exc})") from exc
    if engine.dialect.name == "sqlite":
        # the driver must leave BEGIN to us, or the creation of tables is not part of the transaction
        sa.event.listen(engine, "connect", _sqlite_connect)
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _sqlite_connect(connection: Any, _: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def insert(target: Any, blobs: pd.DataFrame, matches: pd.DataFrame | None = None, *, experiment: str = "") -> None:
    """Insert blobs and matches into a database; see `Coloc.insert_matches`."""
    meta, table, blob, match = _tables()
    _check(blobs, matches, experiment)
    with _engine(target).begin() as connection:
        meta.create_all(connection)
        number = _experiment(connection, table, experiment, blobs)
        _upsert(connection, blob, _records(blobs, _BLOB, number), ("experiment_id", "blob_id"))
        if matches is not None:
            _upsert(connection, match, _records(matches, _MATCH, number), ("experiment_id", "blob1_id", "blob2_id"))


def _check(blobs: Any, matches: Any, experiment: Any) -> None:
    if not isinstance(experiment, str):
        raise TypeError(f"experiment={experiment!r}: expected a name")
    for what, frame, needed in (
        ("blobs", blobs, ("blob_id", "channel")),
        ("matches", matches, ("blob1_id", "blob2_id", "channel1", "channel2")),
    ):
        if what == "matches" and frame is None:
            continue
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"{what} are {type(frame).__name__}: expected a DataFrame")
        if missing := [c for c in needed if c not in frame]:
            raise ValueError(f"{what} lack the column {missing[0]!r}: expected {', '.join(needed)}")
    if matches is not None:
        unknown = set(matches["blob1_id"]) | set(matches["blob2_id"])
        if unknown := unknown - set(blobs["blob_id"]):
            raise ValueError(f"blobs lack the blob_id {min(unknown)} that a match refers to")


def _experiment(connection: Any, table: Any, name: str, blobs: pd.DataFrame) -> int:
    """Number of an experiment, created if it is new; it records channels whose names are numbers."""
    sa = _sqlalchemy()
    channels = [c.item() if isinstance(c, np.generic) else c for c in blobs["channel"].unique()]
    row = connection.execute(sa.select(table.c.id, table.c.channels).where(table.c.name == name)).one_or_none()
    if row is None:
        values = {"name": name, "channels": json.dumps(channels)}
        return int(connection.execute(table.insert().values(values)).inserted_primary_key[0])
    known = json.loads(row.channels)
    known += [c for c in channels if c not in known]
    connection.execute(table.update().where(table.c.id == row.id).values(channels=json.dumps(known)))
    return int(row.id)


def _records(frame: pd.DataFrame, columns: tuple[str, ...], experiment: int) -> Iterator[dict[str, Any]]:
    """Rows as plain Python values, since databases do not accept numpy types."""
    own = [c for c in columns if c in frame.columns]
    values = [_plain(frame[c], text=c.startswith("channel")) for c in own]
    for row in zip(*values, strict=True):
        yield {"experiment_id": experiment, **dict.fromkeys(columns), **dict(zip(own, row, strict=True))}


def _plain(column: pd.Series, text: bool) -> list[Any]:
    found = column.astype(object).where(column.notna(), None).tolist()
    found = [v.item() if isinstance(v, np.generic) else v for v in found]
    return [str(v) for v in found] if text else found


def _upsert(connection: Any, table: Any, rows: Iterator[dict[str, Any]], keys: tuple[str, ...]) -> None:
    sa = _sqlalchemy()
    dialect = connection.engine.dialect.name
    while batch := list(islice(rows, _BATCH)):
        if dialect in ("sqlite", "postgresql"):
            dialects = __import__(f"sqlalchemy.dialects.{dialect}", fromlist=["insert"])
            statement = dialects.insert(table)
            changed = {c: statement.excluded[c] for c in batch[0] if c not in keys}
            connection.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=changed), batch)
            continue
        where = sa.and_(*(table.c[k] == sa.bindparam(f"key_{k}") for k in keys))
        for row in batch:  # no known upsert: update, and insert missing rows
            named = {f"key_{k}": row[k] for k in keys}
            rest = {k: v for k, v in row.items() if k not in keys}
            if not connection.execute(table.update().where(where).values(rest), named).rowcount:
                connection.execute(table.insert().values(row))


def select(
    target: Any, *, experiment: str = "", channels: Any = None, roi: Mapping[str, Any] | None = None
) -> tuple[pd.DataFrame, Matches]:
    """Return blobs and matches from a database; see `Coloc.select_matches`."""
    sa = _sqlalchemy()
    _, table, blob, match = _tables()
    roi = checks.region(roi, ("t", "z", "y", "x"))
    channels = None if channels is None else checks.listed("channels", channels)
    engine = _engine(target)
    if engine.dialect.name == "sqlite" and engine.url.database and not os.path.exists(engine.url.database):
        raise FileNotFoundError(f"there is no file {engine.url.database!r}")
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(table.name):
            raise KeyError(f"there is no experiment {experiment!r}: the database contains no blobs yet")
        found = connection.execute(
            sa.select(table.c.id, table.c.channels).where(table.c.name == experiment)
        ).one_or_none()
        if found is None:
            known = [r.name for r in connection.execute(sa.select(table.c.name).order_by(table.c.id))]
            raise KeyError(
                f"there is no experiment {experiment!r} in the database; it has {', '.join(map(repr, known))}"
            )
        names = {str(c): c for c in json.loads(found.channels)}
        wanted = None if channels is None else [str(c) for c in channels]
        columns = [blob.c[c] for c in _BLOB]
        query = sa.select(*columns).where(*_where(blob, found.id, wanted, roi)).order_by(blob.c.blob_id)
        blobs = pd.DataFrame(connection.execute(query).all(), columns=list(_BLOB))
        one, two = blob.alias("one"), blob.alias("two")
        places = [side.c[a].label(f"{a}{k}") for k, side in ((1, one), (2, two)) for a in ("z", "y", "x")]
        query = sa.select(match.c.id.label("match_id"), *(match.c[c] for c in _MATCH), *places)
        for side, key in ((one, match.c.blob1_id), (two, match.c.blob2_id)):
            on = sa.and_(side.c.experiment_id == match.c.experiment_id, side.c.blob_id == key)
            query = query.join(side, on)
            query = query.where(*_where(side, found.id, wanted, roi))
        result = connection.execute(query.where(match.c.experiment_id == found.id).order_by(match.c.id))
        matches = pd.DataFrame(result.all(), columns=list(result.keys()))
    for frame, keys in ((blobs, ["channel"]), (matches, ["channel1", "channel2"])):
        for key in keys:
            frame[key] = [names.get(c, c) for c in frame[key]]
    for axis in ("z", "y", "x"):
        matches[axis] = (matches[f"{axis}1"] + matches[f"{axis}2"]) / 2
    return _without_empty(blobs), _as_matches(matches, _without_empty(blobs))


def _where(side: Any, number: int, channels: list[str] | None, roi: Mapping[str, Any] | None) -> list[Any]:
    conditions = [side.c.experiment_id == number]
    if channels is not None:
        conditions.append(side.c.channel.in_(channels))
    for axis, (low, high) in (roi or {}).items():
        if low is not None:
            conditions.append(side.c[axis] >= low)
        if high is not None:
            conditions.append(side.c[axis] < high)
    return conditions


def _without_empty(frame: pd.DataFrame) -> pd.DataFrame:
    """Drop columns that were never given."""
    optional = [c for c in ("t", "z", "radius", "confirmed", "truth") if c in frame and frame[c].isna().all()]
    return frame.drop(columns=optional)


def _as_matches(table: pd.DataFrame, blobs: pd.DataFrame) -> Matches:
    order = [
        "match_id",
        "t",
        "channel1",
        "channel2",
        "blob1_id",
        "blob2_id",
        "z1",
        "y1",
        "x1",
        "z2",
        "y2",
        "x2",
        "z",
        "y",
        "x",
        "distance",
        "distance_scaled",
    ]
    table = table[[c for c in order if c in table]]
    drop = [c for c in ("t", "z1", "z2", "z", "distance_scaled") if c in table and len(table) and table[c].isna().all()]
    table = table.drop(columns=drop)
    pairs = list(dict.fromkeys(zip(table["channel1"], table["channel2"], strict=True)))
    return matches_of(table, blobs, pairs)


def write_parquet(path: Any, frame: pd.DataFrame) -> None:
    """Write blobs or matches to Parquet; an existing file is replaced atomically."""
    imported("pyarrow", "parquet", "writing Parquet")
    plain = pd.DataFrame(frame)
    plain.attrs = {}
    if hasattr(path, "write"):
        plain.to_parquet(path, index=False)
        return
    with replacing(File.parse(path), overwrite=True) as temporary:
        plain.to_parquet(temporary, index=False)


def read_parquet(path: Any) -> pd.DataFrame:
    """Read blobs or matches from Parquet."""
    imported("pyarrow", "parquet", "reading Parquet")
    return pd.read_parquet(path)


# MagellanMapper's database, schema version 4


def from_magmap(path: Any, target: Any = None) -> dict[str, tuple[pd.DataFrame, Matches]]:
    """Read a database of MagellanMapper; see `Coloc.from_magmap`."""
    import contextlib
    import sqlite3

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            version = connection.execute("SELECT MAX(version) FROM about").fetchone()[0]
            found = {
                name: _magmap_experiment(connection, number)
                for number, name in connection.execute("SELECT id, name FROM experiments ORDER BY id").fetchall()
            }
        except sqlite3.DatabaseError as exc:
            raise FormatError(f"{path} cannot be read as a database of MagellanMapper: {exc}") from exc
    if version != 4:
        raise FormatError(
            f"{path} has schema version {version}, expected 4: open it with a recent MagellanMapper first"
        )
    if target is not None:
        _insert_all(target, found)
    return found


def _magmap_experiment(connection: Any, number: int) -> tuple[pd.DataFrame, Matches]:
    columns = ["blob_id", "channel", "z", "y", "x", "radius", "confirmed", "truth"]
    rows = connection.execute(
        "SELECT blobs.id, channel, z, y, x, radius, confirmed, truth FROM blobs JOIN rois ON rois.id = blobs.roi_id "
        "WHERE rois.experiment_id = ? ORDER BY blobs.id",
        (number,),
    ).fetchall()
    blobs = pd.DataFrame([[_magmap_number(v) for v in row] for row in rows], columns=columns)
    blobs = blobs.astype({"channel": int, "z": float, "y": float, "x": float})
    rows = connection.execute(
        "SELECT blob_matches.id, blob1, blob2, dist FROM blob_matches JOIN rois ON rois.id = blob_matches.roi_id "
        "WHERE rois.experiment_id = ? ORDER BY blob_matches.id",
        (number,),
    ).fetchall()
    table = pd.DataFrame(
        [[_magmap_number(v) for v in row] for row in rows], columns=["match_id", "blob1_id", "blob2_id", "distance"]
    )
    table = table.astype({"match_id": int, "blob1_id": int, "blob2_id": int, "distance": float})
    own = blobs.set_index("blob_id")
    for side in (1, 2):
        ids = table[f"blob{side}_id"]
        table[f"channel{side}"] = own["channel"].reindex(ids).to_numpy()
        for axis in ("z", "y", "x"):
            table[f"{axis}{side}"] = own[axis].reindex(ids).to_numpy()
    for axis in ("z", "y", "x"):
        table[axis] = (table[f"{axis}1"] + table[f"{axis}2"]) / 2
    table["distance_scaled"] = np.nan
    return blobs, _as_matches(table, blobs)


def _magmap_number(value: Any) -> Any:
    """A number; numpy integers that were stored as bytes become numbers again."""
    return int.from_bytes(value, "little", signed=True) if isinstance(value, bytes) else value


def _insert_all(target: Any, found: dict[str, tuple[pd.DataFrame, Matches]]) -> None:
    meta, table, blob, match = _tables()
    with _engine(target).begin() as connection:
        meta.create_all(connection)
        for name, (blobs, matches) in found.items():
            number = _experiment(connection, table, name, blobs)
            _upsert(connection, blob, _records(blobs, _BLOB, number), ("experiment_id", "blob_id"))
            _upsert(connection, match, _records(matches, _MATCH, number), ("experiment_id", "blob1_id", "blob2_id"))
