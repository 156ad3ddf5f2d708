insert into {{ schema }}.migration (migration, checksum, version)
values ({{ migration | literal }}, {{ checksum | literal }}, {{ version | literal }});
