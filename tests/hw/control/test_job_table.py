"""Job table: an entry per job, with the flags since the job before."""

from bench import Bench

from fusemax.spec import JOB_ENTRY, JOB_TABLE_ENTRIES
from fusemax_hw.control.job_table import JobTable

CYCLES_BITS = 48


def test_entries():
    bench = Bench(JobTable(CYCLES_BITS), 3)
    dut, rng = bench.dut, bench.rng
    expected, seen, now, read = {}, {"nonfinite": 0, "overflow": 0}, {}, []

    def act():
        for index, entry in now.get("write", {}).items():
            expected[index] = entry
        now.clear()
        now.update({name: int(rng.random() < 0.05) for name in seen}, clear=int(rng.random() < 0.01))
        now["index"], now["read"] = rng.randrange(JOB_TABLE_ENTRIES), rng.randrange(JOB_TABLE_ENTRIES)
        now["cycles"] = rng.getrandbits(CYCLES_BITS)
        now["valid"] = int(rng.random() < 0.1)
        if now["valid"]:
            words = {"cycles": now["cycles"] & 0xFFFF_FFFF, "cycles_high": now["cycles"] >> 32}
            now["write"] = {now["index"]: JOB_ENTRY.pack(words | seen)}
        for name in seen:
            seen[name] = 0 if now["clear"] else now[name] or (seen[name] and not now["valid"])

    bench.each(act)
    for port, name in (
        ("write", "valid"),
        ("read_index", "read"),
        *((name, name) for name in ("index", "cycles", "clear", *seen)),
    ):
        bench.drive(getattr(dut, port), lambda name=name: now[name])
    bench.watch(dut.entry, lambda bits: read.append((bits, expected.get(now["read"], 0))))
    bench.run(lambda: bench.cycle == 2000, 2100)
    assert [bits for bits, _ in read] == [entry for _, entry in read]
    flags = [unpack_flags(entry) for entry in expected.values()]
    assert len(expected) == JOB_TABLE_ENTRIES and len(set(flags)) > 1


def unpack_flags(entry):
    fields = JOB_ENTRY.unpack(entry)
    return fields["nonfinite"], fields["overflow"]
