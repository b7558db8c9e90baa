"""One colour for each meaning, the same on every dashboard.

Green is what rises, is bought or is long, red what falls, is sold or is short. These two differ in brightness as well as in hue. Where a
colour alone tells buy from sell, the variable `colours` swaps them for blue and orange, which every kind of colour blindness tells apart.
"""

UP = "#00b894"  # bought, long, bid, profit
DOWN = "#d63031"  # sold, short, ask, loss
SAFE_UP = "#0072b2"  # Okabe and Ito's palette, here and below
SAFE_DOWN = "#e69f00"

PRICE = "#74b9ff"
VWAP = "#fdcb6e"
CVD = "#a29bfe"

# A number without a verdict, Grafana's name as below. Note 4 has green for it; but green says good or bought here, on every dashboard,
# and a count of positions is neither. PRICE is too pale for figures on white.
PLAIN = "blue"
GOOD = "green"  # Grafana's names, which it shades for the dark and the light theme
WARNING = "yellow"
BAD = "red"
NEUTRAL = "gray"
TEXT = "text"

USUAL, SAFE = "usual", "safe"  # values of the variable `colours`
PAIRS = {USUAL: (UP, DOWN), SAFE: (SAFE_UP, SAFE_DOWN)}
