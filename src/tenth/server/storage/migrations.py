"""The tables of the server's database, as the steps that make them.

A database has the version of the last step that was applied to it. A step is never changed after a release: a new one follows.

- jobs: `number` is the order of submission, with which the id begins, `furthest` the most that any attempt has done, `change`
  the value of the counter at the last change of the row, which event streams follow.
- generation: random texts, of which the one in the file beside the database is one, unless an older database was put back.
- client_keys: what clients call a job, to submit it twice without harm; several may have submitted the same.
- pictures: of jobs that are done; `number` is as a job's, `position` the picture's in its job, `thumbnail` a sha256.
- webhooks: whom to tell that a job ended, and when next.
- blob_uses: who uses a file, as `picture:ID` or `job:ID`; `until` is a time after which a use is void.
"""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE counter (value INTEGER NOT NULL)",
        "INSERT INTO counter VALUES (0)",
        "CREATE TABLE generation (current TEXT NOT NULL, previous TEXT NOT NULL)",
        "INSERT INTO generation VALUES ('', '')",
        """CREATE TABLE jobs (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, kind TEXT NOT NULL,
            key TEXT NOT NULL, payload TEXT NOT NULL, person TEXT NOT NULL, priority INTEGER NOT NULL,
            status TEXT NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
            attempts INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0,
            furthest INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, started REAL, finished REAL, error TEXT,
            result TEXT NOT NULL DEFAULT '{}', num_pictures INTEGER NOT NULL DEFAULT 0,
            worker TEXT, lease_until REAL, not_before REAL NOT NULL DEFAULT 0, change INTEGER NOT NULL
        ) STRICT""",
        "CREATE INDEX jobs_queued ON jobs (priority DESC, number) WHERE status = 'queued'",
        "CREATE INDEX jobs_running ON jobs (lease_until) WHERE status = 'running'",
        "CREATE UNIQUE INDEX jobs_active ON jobs (owner, key) WHERE status IN ('queued', 'running')",
        "CREATE INDEX jobs_key ON jobs (owner, key, number)",
        "CREATE INDEX jobs_owner ON jobs (owner, number)",
        "CREATE INDEX jobs_person ON jobs (owner, person)",
        "CREATE INDEX jobs_change ON jobs (change)",
        """CREATE TABLE client_keys (
            owner TEXT NOT NULL, client_key TEXT NOT NULL, job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
            PRIMARY KEY (owner, client_key)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX client_keys_job ON client_keys (job)",
        """CREATE TABLE pictures (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
            job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, position INTEGER NOT NULL,
            owner TEXT NOT NULL, person TEXT NOT NULL, sha256 TEXT NOT NULL, thumbnail TEXT, seed INTEGER NOT NULL,
            settings TEXT NOT NULL, figures TEXT NOT NULL, created REAL NOT NULL, width INTEGER NOT NULL,
            height INTEGER NOT NULL, kept INTEGER NOT NULL DEFAULT 0, UNIQUE (job, position)
        ) STRICT""",
        "CREATE INDEX pictures_owner ON pictures (owner, number)",
        "CREATE INDEX pictures_person ON pictures (owner, person, number)",
        "CREATE INDEX pictures_created ON pictures (created) WHERE kept = 0",
        """CREATE TABLE webhooks (
            job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, url TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
            next REAL NOT NULL DEFAULT 0, PRIMARY KEY (job, url)
        ) STRICT""",
        """CREATE TABLE blob_uses (
            sha256 TEXT NOT NULL, holder TEXT NOT NULL, until REAL, PRIMARY KEY (sha256, holder)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX blob_uses_holder ON blob_uses (holder)",
        "CREATE INDEX blob_uses_until ON blob_uses (until) WHERE until IS NOT NULL",
    ),
)
