"""Which coordinator works with which cell: kept through restarts, never shared while one is free, near if possible."""

from actors.batch.cell_claims import CellClaims


def test_every_coordinator_has_a_cell_of_its_own_and_keeps_it():
    claims = CellClaims(("n0", "n1", "n0"))
    assert [claims.claim(actor, node) for actor, node in (("a", "n1"), ("b", "n0"), ("c", "n1"))] == [1, 0, 2]
    assert claims.claim("b", "n9") == 0 and claims.claim("a", "n0") == 1


def test_the_successor_of_a_coordinator_that_is_gone_gets_the_most_silent_cell():
    claims = CellClaims(("n", "n", "n"))
    for actor in ("a", "b", "c"):
        claims.claim(actor, "n")
    for actor, cell in (("a", 0), ("c", 2)):
        claims.confirm(actor, cell)
    assert claims.claim("d", "n") == 1
    assert claims.claim("d", "n") == 1


def test_a_desk_that_lost_its_memory_learns_from_signs_of_life():
    claims = CellClaims(("n", "n"))
    claims.confirm("a", 0)
    assert claims.claim("b", "n") == 1 and claims.claim("a", "n") == 0
