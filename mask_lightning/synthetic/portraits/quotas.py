"""How many people of each gender and age band: the imbalance of the competition, exactly."""

from mask_lightning.synthetic.portraits.people import BANDS, Band, Gender

BAND_SHARES = (0.47, 0.46, 0.07)
GENDER_SHARES = (0.61, 0.39)  # women, men


def largest_remainder(total: int, shares: tuple[float, ...]) -> list[int]:
    """Split ``total`` into whole parts as near to ``shares`` (which sum to 1) as whole parts can be."""
    exact = [total * share for share in shares]
    parts = [int(value + 1e-9) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (parts[i] - exact[i], i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def quotas(people: int) -> dict[tuple[Gender, Band], int]:
    """Count the people of each gender and age band.

    Both margins are exact; the few seniors are shared out first, so that both genders have some.
    """
    young, middle, senior = largest_remainder(people, BAND_SHARES)
    women, _ = largest_remainder(people, GENDER_SHARES)
    senior_women, _ = largest_remainder(senior, GENDER_SHARES)
    others = max(young + middle, 1)
    shares = (young / others, 1.0 - young / others)
    young_women, middle_women = largest_remainder(women - senior_women, shares)
    by_band = zip(BANDS, (young, middle, senior), (young_women, middle_women, senior_women), strict=True)
    counts: dict[tuple[Gender, Band], int] = {}
    for band, count, of_women in by_band:
        counts["female", band] = of_women
        counts["male", band] = count - of_women
    return counts
