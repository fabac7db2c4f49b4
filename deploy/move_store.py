"""Moves an MLflow store from SQLite to PostgreSQL, and its artifacts to an S3 server.

    python deploy/move_store.py sqlite:///runs/mlflow.db postgresql://USER@HOST/mlflow \
        --artifacts s3://mlflow

Stop every program that writes to the SQLite store first. The new database must be empty. The old
store stays as it is. Artifacts of file: folders are copied below moved/ of the S3 bucket and are
found through the server afterwards, which runs with --artifacts-destination of the same bucket.
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and MLFLOW_S3_ENDPOINT_URL say how the bucket is reached.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import sqlalchemy as sql

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "model_versions": "source",
    "logged_models": "artifact_location",
}
"""Columns that say where artifacts are."""
MOVED = "mlflow-artifacts:/moved"
BATCH = 1000


def main() -> None:
    """Reads the command line and moves the store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", help="sqlite:///path/mlflow.db")
    parser.add_argument("target", help="postgresql://user@host/database")
    parser.add_argument("--artifacts", default="", help="s3://bucket; empty leaves them in place")
    options = parser.parse_args()
    source, target = sql.create_engine(options.source), sql.create_engine(options.target)
    if not sql.inspect(source).has_table("alembic_version"):
        sys.exit(f"{options.source} is no MLflow store; check the path")
    if sql.inspect(target).get_table_names():
        sys.exit("the new database holds tables already; create an empty one")
    make_tables(options.target)
    tables = both(source, target)
    if revision(source) != revision(target):
        sys.exit("the store was written by another MLflow; back it up and run mlflow db upgrade")
    counts = copy_rows(source, target, tables)
    print(f"{sum(counts.values())} rows of {len(counts)} tables")
    if options.artifacts:
        print(f"{move_artifacts(target, options.artifacts)} files")
    source.dispose()
    target.dispose()


def make_tables(uri: str) -> None:
    """Lets MLflow make its tables."""
    import mlflow

    mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)


def revision(engine: sql.Engine) -> str:
    """The revision of MLflow's tables."""
    with engine.connect() as connection:
        return str(connection.execute(sql.text("SELECT version_num FROM alembic_version")).scalar())


def both(source: sql.Engine, target: sql.Engine) -> list[tuple[sql.Table, sql.Table]]:
    """Tables of both, those that others refer to first."""
    old, new = sql.MetaData(), sql.MetaData()
    old.reflect(source)
    new.reflect(target)
    missing = old.tables.keys() - new.tables.keys()
    if missing:
        sys.exit(f"tables that MLflow does not have: {', '.join(sorted(missing))}")
    return [
        (old.tables[table.name], table)
        for table in new.sorted_tables
        if table.name != "alembic_version" and table.name in old.tables
    ]


def copy_rows(
    source: sql.Engine, target: sql.Engine, tables: list[tuple[sql.Table, sql.Table]]
) -> dict[str, int]:
    """Copies all rows in one transaction, and counts them by table."""
    counts = {}
    with source.connect() as reading, target.begin() as writing:
        for _, table in reversed(tables):
            writing.execute(table.delete())  # what MLflow puts into a new store
        for old, table in tables:
            rows = [dict(row) for row in reading.execute(old.select()).mappings()]
            for start in range(0, len(rows), BATCH):
                writing.execute(table.insert(), rows[start : start + BATCH])
            counts[table.name] = len(rows)
            for column in table.primary_key.columns:
                if column.autoincrement is True or column.server_default is not None:
                    go_on_counting(writing, table.name, column.name)
    return counts


def go_on_counting(connection: sql.Connection, table: str, column: str) -> None:
    """Sets the counter of a column behind its largest value."""
    counter = sql.text("SELECT pg_get_serial_sequence(:table, :column)")
    name = connection.execute(counter, {"table": table, "column": column}).scalar()
    if name:
        most = f'SELECT MAX("{column}") FROM "{table}"'  # nosec B608 # names of the schema itself
        connection.execute(sql.text(f"SELECT setval(:name, COALESCE(({most}), 1))"), {"name": name})


def move_artifacts(target: sql.Engine, bucket: str) -> int:
    """Copies artifacts of local folders to a bucket and says so in the database; counts files."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    roots: dict[str, str] = {}
    with target.begin() as connection:
        tables = sql.MetaData()
        tables.reflect(connection, only=list(PLACES))
        for place, column in PLACES.items():
            for value in local_places(connection, tables.tables[place].c[column]):
                known = (old for old in roots if f"{value}/".startswith(f"{old}/"))
                if not (root := next(known, "")):
                    root, roots[value] = value, f"{MOVED}/{len(roots)}"
                new = roots[root] + value[len(root) :]
                cells = tables.tables[place]
                connection.execute(
                    cells.update().where(cells.c[column] == value).values({column: new})
                )
    files = 0
    for old, new in roots.items():
        folder = Path(unquote(urlparse(old).path)) if old.startswith("file:") else Path(old)
        if folder.is_dir():
            to = f"{bucket}/{new.removeprefix('mlflow-artifacts:/')}"
            get_artifact_repository(to).log_artifacts(str(folder))
            files += sum(file.is_file() for file in folder.rglob("*"))
    return files


def local_places(connection: sql.Connection, column: sql.Column) -> Iterator[str]:
    """Folders of this machine in a column, shorter ones first."""
    found = connection.execute(sql.select(column).distinct()).scalars()
    local = [value for value in found if value and (value.startswith(("file:", "/")))]
    yield from sorted(local, key=len)


if __name__ == "__main__":
    main()
