"""Texts of cascades that tests change."""

__all__ = ["LOOP", "SMALL"]

SMALL = """\
einsum:
  declaration:
    Q: [E, P]
    K: [E, M]
    QK: [M, P]
    Z: [P]
  expressions:
    - QK[m, p] = Q[e, p] * K[e, m]
    - Z[p] = exp(QK[m, p]) ::max(m)
"""
LOOP = """\
einsum:
  declaration:
    A: [M]
    R: [I]
    Z: []
  iterative:
    i: i >= M
  initialization:
    - R[0] = 0
  extended:
    - R[i+1] = R[i] + A[i]
  finally:
    - Z = R[M]
"""
