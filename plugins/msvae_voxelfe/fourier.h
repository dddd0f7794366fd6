/* Fast Fourier transforms of columns: of n vectors, every lane (a complex number) is a column of its own.
 *
 * Stockham's algorithm, which sorts as it goes, with the factors 4, 2, 3, 5 and any other primes; factors and tables
 * come from preconditioner.py. Included by kernels.c, whose `real` and `vec` it uses.
 */
enum { LANES = WIDTH / 2, BLOCK = 4 };

#ifdef __clang__
INLINE vec shuffled(vec a, vec b, const int *from) {
    vec v;
    for (int lane = 0; lane < WIDTH; lane++) v[lane] = from[lane] < WIDTH ? a[from[lane]] : b[from[lane] - WIDTH];
    return v;
}
#else
typedef __typeof__((vec){0} == (vec){0}) lanes;
INLINE vec shuffled(vec a, vec b, const int *from) {
    lanes order;
    for (int lane = 0; lane < WIDTH; lane++) order[lane] = from[lane];
    return __builtin_shuffle(a, b, order);
}
#endif

INLINE vec swapped(vec v) { /* real and imaginary parts exchanged */
    int from[WIDTH];
#pragma GCC unroll 16
    for (int lane = 0; lane < WIDTH; lane++) from[lane] = lane ^ 1;
    return shuffled(v, v, from);
}

INLINE vec turned(vec v) { /* i v */
    vec sign;
    for (int lane = 0; lane < WIDTH; lane++) sign[lane] = lane & 1 ? 1 : -1;
    return swapped(v) * sign;
}

INLINE vec times(vec v, const real *w) { /* w: a complex number's real part twice, -imaginary, imaginary */
    return v * repeated(w) + swapped(v) * repeated(w + 2);
}

/* LANES x LANES complex numbers, in place */
INLINE void transpose(vec *v) {
#pragma GCC unroll 3
    for (int d = 1; d < LANES; d *= 2) {
        int low[WIDTH], high[WIDTH];
#pragma GCC unroll 16
        for (int lane = 0; lane < WIDTH; lane++) {
            low[lane] = lane & 2 * d ? WIDTH + lane - 2 * d : lane;
            high[lane] = lane & 2 * d ? WIDTH + lane : lane + 2 * d;
        }
#pragma GCC unroll 8
        for (int row = 0; row < LANES; row++)
            if (!(row & d)) {
                const vec a = v[row], b = v[row + d];
                v[row] = shuffled(a, b, low);
                v[row + d] = shuffled(a, b, high);
            }
    }
}

INLINE void butterfly(int radix, int inverse, vec *a) {
    if (radix == 2) {
        const vec b = a[1];
        a[1] = a[0] - b;
        a[0] = a[0] + b;
        return;
    }
    if (radix == 4) {
        const vec sum = a[0] + a[2], difference = a[0] - a[2], other = a[1] + a[3];
        const vec turn = inverse ? turned(a[1] - a[3]) : turned(a[3] - a[1]);
        a[0] = sum + other;
        a[1] = difference + turn;
        a[2] = sum - other;
        a[3] = difference - turn;
        return;
    }
    /* cosines and sines of 2 pi j k / radix, for 3 and for 5 */
    static const real cosine[2][2][2] = {{{-0.5, 0}},
                                         {{0.30901699437494742410, -0.80901699437494742410},
                                          {-0.80901699437494742410, 0.30901699437494742410}}};
    static const real sine[2][2][2] = {{{0.86602540378443864676, 0}},
                                       {{0.95105651629515357212, 0.58778525229247312917},
                                        {0.58778525229247312917, -0.95105651629515357212}}};
    const int half = radix / 2, which = radix == 5;
    vec even[2], odd[2], sum = a[0];
#pragma GCC unroll 2
    for (int j = 0; j < half; j++) {
        even[j] = a[1 + j] + a[radix - 1 - j];
        odd[j] = inverse ? turned(a[1 + j] - a[radix - 1 - j]) : turned(a[radix - 1 - j] - a[1 + j]);
        sum += even[j];
    }
#pragma GCC unroll 2
    for (int k = 0; k < half; k++) {
        vec c = a[0], s = {0};
#pragma GCC unroll 2
        for (int j = 0; j < half; j++) {
            c += cosine[which][k][j] * even[j];
            s += sine[which][k][j] * odd[j];
        }
        a[1 + k] = c + s;
        a[radix - 1 - k] = c - s;
    }
    a[0] = sum;
}

/* One factor: to[q + s (radix p + k)] = w^(p k) sum_j exp(-+2 pi i j k / radix) from[q + s (p + j m)] for p < m, q < s */
INLINE const real *stage(int radix, int inverse, long m, long s, const vec *restrict from, vec *restrict to,
                         const real *w) {
    for (long p = 0; p < m; p++) {
        for (long q = 0; q < s; q++) {
            vec a[5];
#pragma GCC unroll 5
            for (int k = 0; k < radix; k++) a[k] = from[q + s * (p + k * m)];
            butterfly(radix, inverse, a);
            to[q + s * radix * p] = a[0];
#pragma GCC unroll 5
            for (int k = 1; k < radix; k++) to[q + s * (radix * p + k)] = p ? times(a[k], w + 4 * (k - 1)) : a[k];
        }
        if (p) w += 4 * (radix - 1);
    }
    return w;
}

/* The transform of an odd number n of vectors, in place, by the matrix. The even part x_j + x_(n-j) only meets cosines,
 * the odd part only sines: half the size twice, and real, which makes a quarter of the work of the whole complex matrix.
 * cosine[j][k] and sine[j][k]: n/2 + 1 rows of a whole number of blocks, with the sign of the transform. spare: n + 2 */
INLINE void column(long n, const real *cosine, const real *sine, vec *out, vec *spare) {
    const long half = n / 2 + 1, row = (half + BLOCK - 1) / BLOCK * BLOCK;
    vec *even = spare, *odd = spare + half;
    even[0] = out[0];
    for (long j = 1; j < half; j++) {
        const vec a = out[j], b = out[n - j];
        even[j] = a + b;
        odd[j] = turned(a - b);
    }
    for (long first = 0; first < half; first += BLOCK) {
        vec c[BLOCK] = {{0}}, s[BLOCK] = {{0}};
        for (long j = 0; j < half; j++)
            for (int k = 0; k < BLOCK; k++) c[k] += cosine[j * row + first + k] * even[j];
        for (long j = 1; j < half; j++)
            for (int k = 0; k < BLOCK; k++) s[k] += sine[j * row + first + k] * odd[j];
        for (int k = 0; k < BLOCK && first + k < half; k++) {
            out[first + k] = c[k] + s[k];
            if (first + k) out[n - first - k] = c[k] - s[k];
        }
    }
}

/* as `stage`, for an odd prime; its matrices stand in the table before the powers of w. spare: 2 radix + 2 vectors */
INLINE const real *prime_stage(long radix, long m, long s, const vec *restrict from, vec *restrict to, const real *w,
                               vec *spare) {
    const long half = radix / 2 + 1, size = half * ((half + BLOCK - 1) / BLOCK * BLOCK);
    const real *cosine = w, *sine = w + size;
    w += 2 * size;
    for (long p = 0; p < m; p++) {
        for (long q = 0; q < s; q++) {
            for (long k = 0; k < radix; k++) spare[k] = from[q + s * (p + k * m)];
            column(radix, cosine, sine, spare, spare + radix);
            to[q + s * radix * p] = spare[0];
            for (long k = 1; k < radix; k++)
                to[q + s * (radix * p + k)] = p ? times(spare[k], w + 4 * (k - 1)) : spare[k];
        }
        if (p) w += 4 * (radix - 1);
    }
    return w;
}

/* The transform of n vectors `from`, not scaled, in `from` or `to`, whichever is returned. spare: 2 n + 2 vectors */
INLINE vec *fourier(int inverse, long n, const long *factors, const real *table, vec *from, vec *to, vec *spare) {
    for (long left = n, s = 1; left > 1; factors++) {
        const long radix = *factors, m = left / radix;
        switch (radix) {
            case 2: table = stage(2, inverse, m, s, from, to, table); break;
            case 3: table = stage(3, inverse, m, s, from, to, table); break;
            case 4: table = stage(4, inverse, m, s, from, to, table); break;
            case 5: table = stage(5, inverse, m, s, from, to, table); break;
            default: table = prime_stage(radix, m, s, from, to, table, spare);
        }
        vec *swap = from;
        from = to;
        to = swap;
        left = m;
        s *= radix;
    }
    return from;
}
