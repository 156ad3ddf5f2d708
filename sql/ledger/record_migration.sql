insert into {{ schema }}.migration (migration, checksum, version)
values ('{{ migration }}', '{{ checksum }}', '{{ version }}');
