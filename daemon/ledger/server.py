"""What a ledger on PostgreSQL needs of its server, and who else uses it."""

from sqlalchemy import Connection, Engine, text

from daemon.ledger.engine import APPLICATION, application_name

# The oldest that the tests' Debian knows; older ones get no corrections any more.
OLDEST = 14
_WANTED = {"fsync": ("on",), "full_page_writes": ("on",), "synchronous_commit": ("on", "remote_apply", "remote_write")}
_OTHERS = text(
    "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name LIKE :ours AND application_name <> :own ORDER BY application_name"
)
_TLS = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")


def ailments(engine: Engine) -> list[str]:
    """Return what is wrong with the ledger's server, in words with the mend; nothing where it is SQLite."""
    if engine.dialect.name != "postgresql":
        return []
    with engine.connect() as connection:
        return [*_unsafe(connection), *_old(connection), *_open(connection)]


def others(engine: Engine) -> list[str]:
    """Return the processes that use the ledger's server beside this one, as PROCESS@MACHINE."""
    if engine.dialect.name != "postgresql":
        return []
    own = application_name()
    with engine.connect() as connection:
        names = connection.execute(_OTHERS, {"ours": f"{APPLICATION}-%", "own": own}).scalars()
        return [name.removeprefix(f"{APPLICATION}-") for name in dict.fromkeys(names)]


def _unsafe(connection: Connection) -> list[str]:
    found = {name: str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in _WANTED}
    return [
        f"{name} = {value}: what was acknowledged may be lost with the server's power; set it to {_WANTED[name][0]}"
        for name, value in found.items()
        if value not in _WANTED[name]
    ]


def _old(connection: Connection) -> list[str]:
    version = int(str(connection.exec_driver_sql("SHOW server_version_num").scalar())) // 10_000
    encoding = str(connection.exec_driver_sql("SHOW server_encoding").scalar())
    old = [f"PostgreSQL {version} is too old: {OLDEST} or newer is needed"] if version < OLDEST else []
    if encoding != "UTF8":
        old.append(f"the database is in {encoding}, which does not hold every name: make it anew with ENCODING 'UTF8'")
    return old


def _open(connection: Connection) -> list[str]:
    """Return that UIDs and reasons cross the network in plain text, where they do."""
    address = connection.exec_driver_sql("SELECT host(inet_server_addr())").scalar()
    if address in {None, "127.0.0.1", "::1"} or connection.execute(_TLS).scalar():
        return []
    return [f"the connection to {address} is in plain text: add sslmode=verify-full and sslrootcert to data.ledger_url"]
