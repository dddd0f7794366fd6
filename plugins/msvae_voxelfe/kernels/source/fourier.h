/* Fast Fourier transforms of columns: of n vectors, every lane (a complex number) is a column of its own.
 *
 * Stockham's algorithm, which sorts as it goes, with the factors 8, 4, 2, 3, 5 and any other primes; factors and tables
 * come from preconditioner.py. The first factor takes the columns from where they are, the last one leaves them where
 * they are wanted. Included by kernels.c.
 */
enum { BLOCK = 4 };

INLINE vec times(vec v, const real *w) { /* w: a complex number's real part twice, -imaginary, imaginary */
    return v * repeated(w) + swapped(v) * repeated(w + 2);
}

INLINE void quarter(int inverse, vec *a) { /* four values */
    const vec sum = a[0] + a[2], difference = a[0] - a[2], other = a[1] + a[3];
    const vec turn = inverse ? turned(a[1] - a[3]) : turned(a[3] - a[1]);
    a[0] = sum + other;
    a[1] = difference + turn;
    a[2] = sum - other;
    a[3] = difference - turn;
}

INLINE void butterfly(int radix, int inverse, vec *a) {
    if (radix == 2) {
        const vec b = a[1];
        a[1] = a[0] - b;
        a[0] = a[0] + b;
        return;
    }
    if (radix == 4) {
        quarter(inverse, a);
        return;
    }
    if (radix == 8) {
        const real half = (real)0.70710678118654752440;
        vec even[4] = {a[0], a[2], a[4], a[6]}, odd[4] = {a[1], a[3], a[5], a[7]};
        quarter(inverse, even);
        quarter(inverse, odd);
        odd[1] = half * (inverse ? odd[1] + turned(odd[1]) : odd[1] - turned(odd[1]));
        odd[2] = inverse ? turned(odd[2]) : -turned(odd[2]);
        odd[3] = half * (inverse ? turned(odd[3]) - odd[3] : -turned(odd[3]) - odd[3]);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            a[k] = even[k] + odd[k];
            a[4 + k] = even[k] - odd[k];
        }
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

/* columns of vectors: how far one lies from the next, in reals */
struct place {
    real *at;
    long apart;
};

INLINE real *entry(struct place p, long k) { return p.at + k * p.apart; }

/* One factor: to[q + s (radix p + k)] = w^(p k) sum_j exp(-+2 pi i j k / radix) from[q + s (p + j m)] for p < m, q < s */
INLINE const real *stage(int radix, int inverse, long m, long s, struct place from, struct place to, const real *w) {
    for (long p = 0; p < m; p++) {
        for (long q = 0; q < s; q++) {
            vec a[8];
#pragma GCC unroll 8
            for (int k = 0; k < radix; k++) a[k] = load(entry(from, q + s * (p + k * m)));
            butterfly(radix, inverse, a);
            store(entry(to, q + s * radix * p), a[0]);
#pragma GCC unroll 8
            for (int k = 1; k < radix; k++)
                store(entry(to, q + s * (radix * p + k)), p ? times(a[k], w + 4 * (k - 1)) : a[k]);
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
INLINE const real *prime_stage(long radix, long m, long s, struct place from, struct place to, const real *w, vec *spare) {
    const long half = radix / 2 + 1, size = half * ((half + BLOCK - 1) / BLOCK * BLOCK);
    const real *cosine = w, *sine = w + size;
    w += 2 * size;
    for (long p = 0; p < m; p++) {
        for (long q = 0; q < s; q++) {
            for (long k = 0; k < radix; k++) spare[k] = load(entry(from, q + s * (p + k * m)));
            column(radix, cosine, sine, spare, spare + radix);
            store(entry(to, q + s * radix * p), spare[0]);
            for (long k = 1; k < radix; k++)
                store(entry(to, q + s * (radix * p + k)), p ? times(spare[k], w + 4 * (k - 1)) : spare[k]);
        }
        if (p) w += 4 * (radix - 1);
    }
    return w;
}

/* The transform of n vectors, not scaled, which may take their place. work: 4 n + 2 vectors */
INLINE void fourier(int inverse, long n, const long *factors, const real *table, struct place from, struct place to,
                    vec *work) {
    struct place next = {(real *)work, WIDTH}, other = {(real *)(work + n), WIDTH};
    if (n == 1) store(to.at, load(from.at));
    for (long left = n, s = 1; left > 1; factors++) {
        const long radix = *factors, m = left / radix;
        const struct place there = m == 1 ? to : next;
        switch (radix) {
            case 2: table = stage(2, inverse, m, s, from, there, table); break;
            case 3: table = stage(3, inverse, m, s, from, there, table); break;
            case 4: table = stage(4, inverse, m, s, from, there, table); break;
            case 5: table = stage(5, inverse, m, s, from, there, table); break;
            case 8: table = stage(8, inverse, m, s, from, there, table); break;
            default: table = prime_stage(radix, m, s, from, there, table, work + 2 * n);
        }
        from = there;
        next = other;
        other = from;
        left = m;
        s *= radix;
    }
}
