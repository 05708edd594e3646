// Which tokens of two answers are not in both, by their longest common subsequence.

// Gives two arrays of booleans, true where a token is changed.
export function changed(one, other) {
  const width = other.length + 1;
  const longest = new Uint16Array((one.length + 1) * width); // of the rests from each pair of places on
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      longest[i * width + j] = one[i] === other[j] ? longest[(i + 1) * width + j + 1] + 1
        : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const marks = [one.map(() => true), other.map(() => true)];
  for (let i = 0, j = 0; i < one.length && j < other.length;) {
    if (one[i] === other[j]) marks[0][i++] = marks[1][j++] = false;
    else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return marks;
}
