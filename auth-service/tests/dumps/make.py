"""Prints passlib.jsonl: accounts with hashes of PyPI's passlib, which writes those of Django too.

See README.md.
"""

import json

from passlib.hash import argon2, bcrypt, django_pbkdf2_sha256, pbkdf2_sha256, pbkdf2_sha512

SCHEMES = {
    "bcrypt-2a": bcrypt.using(rounds=10, ident="2a"),
    "bcrypt-2b": bcrypt.using(rounds=11, ident="2b"),
    "bcrypt-2y": bcrypt.using(rounds=10, ident="2y"),
    "pbkdf2-sha256": pbkdf2_sha256.using(rounds=120_000),
    "pbkdf2-sha512": pbkdf2_sha512.using(rounds=60_000),
    "django": django_pbkdf2_sha256.using(rounds=150_000),
    "argon2i": argon2.using(type="I", memory_cost=16_384, time_cost=3, parallelism=2),
    "argon2id": argon2.using(type="ID", memory_cost=65_536, time_cost=3, parallelism=4),
}

for name, scheme in SCHEMES.items():
    print(json.dumps({"username": name, "password_hash": scheme.hash(f"old password {name}")}))
