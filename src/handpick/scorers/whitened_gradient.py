"""Whitened gradients: as the gradient representation, the queries' side through the inverse of the pool's covariance
(whitened.py)."""

from handpick.scorers.gradient import Gradient
from handpick.scorers.whitened import WhitenedQueries, check_room


class Whitened(WhitenedQueries, Gradient):
    """Compares gradients as the pool's covariance has them."""

    def preflight(self) -> None:
        """Refuse what the gradients would, and a covariance that does not fit in memory."""
        check_room(self.settings.projection_dim, "give a smaller --projection-dim")
        super().preflight()
