/* Single-precision matrix multiply: vectorised loads, multiplies and stores. */
#include <stdio.h>
#include <stdlib.h>

#define N 512

static float a[N][N], b[N][N], c[N][N];

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 20;
	double sum = 0;

	for (int i = 0; i < N; i++) {
		for (int j = 0; j < N; j++) {
			a[i][j] = (i * 3 + j) % 17;
			b[i][j] = (i + j * 5) % 13;
		}
	}
	for (int round = 0; round < rounds; round++)
		for (int i = 0; i < N; i++)
			for (int k = 0; k < N; k++) {
				float factor = a[i][k];
				for (int j = 0; j < N; j++)
					c[i][j] += factor * b[k][j];
			}
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++)
			sum += c[i][j];
	printf("%f\n", sum);
	return 0;
}
