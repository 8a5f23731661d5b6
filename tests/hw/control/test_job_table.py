"""Job table: an entry per job, with the flags since the job before; read in one cycle, there in the next."""

from amaranth.lib.memory import Memory
from bench import Bench

from fusemax.spec import JOB_ENTRY, JOB_TABLE_ENTRIES
from fusemax_hw.control import job_table
from fusemax_hw.control.job_table import JobTable

CYCLES_BITS = 48


def test_entries(monkeypatch):
    # A memory on silicon holds anything before it is written.
    filled = {"init": [-1 & (1 << CYCLES_BITS + 2) - 1] * JOB_TABLE_ENTRIES}
    monkeypatch.setattr(job_table, "Memory", lambda **arguments: Memory(**arguments | filled))
    bench = Bench(JobTable(CYCLES_BITS), 3)
    dut, rng = bench.dut, bench.rng
    #: Entries that were written before this cycle; flags since the latest; this cycle's inputs; entry asked for before.
    table, seen, now, asked = {}, {"nonfinite": 0, "overflow": 0}, {}, None
    answers, collisions, unwritten = [], 0, 0

    def act():
        nonlocal asked, collisions
        asked = now.get("read_index") if now.get("read") else None
        for index, entry in now.get("entries", {}).items():
            table[index] = entry
            collisions += asked == index
        now.clear()
        now.update({name: int(rng.random() < 0.05) for name in seen}, clear=int(rng.random() < 0.01))
        now["index"], now["read_index"] = rng.randrange(JOB_TABLE_ENTRIES), rng.randrange(JOB_TABLE_ENTRIES)
        now["cycles"] = rng.getrandbits(CYCLES_BITS)
        now["read"], now["write"] = int(rng.random() < 0.8), int(rng.random() < 0.1)
        if now["write"]:
            words = {"cycles": now["cycles"] & 0xFFFF_FFFF, "cycles_high": now["cycles"] >> 32}
            now["entries"] = {now["index"]: JOB_ENTRY.pack(words | seen)}
        for name in seen:
            seen[name] = 0 if now["clear"] else now[name] or (seen[name] and not now["write"])

    def answer(bits):
        nonlocal unwritten
        if asked is not None:
            answers.append((bits, table.get(asked, 0)))
            unwritten += asked not in table

    bench.each(act)
    for name in ("write", "index", "cycles", "clear", "read", "read_index", *seen):
        bench.drive(getattr(dut, name), lambda name=name: now[name])
    bench.watch(dut.entry, answer)
    bench.run(lambda: bench.cycle == 2000, 2100)
    assert [bits for bits, _ in answers] == [entry for _, entry in answers]
    assert collisions > 3 and unwritten > 3
    flags = [unpack_flags(entry) for entry in table.values()]
    assert len(table) == JOB_TABLE_ENTRIES and len(set(flags)) > 1


def unpack_flags(entry):
    fields = JOB_ENTRY.unpack(entry)
    return fields["nonfinite"], fields["overflow"]
